"""Draws docs/vocabularies.jpg: one scene of the demo world under four vocabularies, by the network in the box.

    python docs/draw_vocabularies.py

There is water in the scene, and the vocabularies have no class for it. docs/vocabularies.md tells what one sees.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from escnet.models import load_model, resolve_model
from escnet.segmenter import Segmenter
from pipeline.demo_world.folder import N_OBJECTS, world_scene
from pipeline.demo_world.names import draw_names
from pipeline.drawing import paint, side_by_side
from pipeline.picture.decide import decide
from schemas.vocabulary import Vocabulary
from schemas.vocabulary_files import parse_vocabulary

SEED, SCENE = 2, 57
CAPTION_PX, GAP_PX, FONT_PX = 24, 6, 15

PLAIN = """\
name: shore
classes:
- {id: 0, name: sand, parent: ground, color: "#e8c547"}
- {id: 1, name: straw, parent: ground, color: "#b5651d"}
- {id: 2, name: sky, color: "#a9d6f5"}
- {id: 3, name: gravel, parent: ground, color: "#8a7f73"}
- {id: 4, name: red dotted circle, parent: object, color: "#e63946"}
- {id: 5, name: white dotted circle, parent: object, color: "#f4f4f4"}
- {id: 6, name: pink checkered square, parent: object, color: "#f49ac2"}
- {id: 8, name: ground, prompts: [], color: "#6a994e"}
- {id: 9, name: object, prompts: [], color: "#7b2cbf"}
"""
SURE = PLAIN.replace(", color", ", min_confidence: 0.8, color")
DISTRACTED = PLAIN + "distractors: [water]\n"
ROLLED_UP = DISTRACTED + "level: parent\n"
PANELS = {
    "no thresholds": PLAIN, "min_confidence: 0.8": SURE, "distractors: [water]": DISTRACTED, "level: parent": ROLLED_UP,
}  # fmt: skip


def main() -> None:
    segmenter = Segmenter(load_model(resolve_model("escnet-nano")), views="single")
    scene = world_scene(draw_names(SEED, N_OBJECTS), SEED, SCENE)
    drawings = [captioned("picture", Image.fromarray(scene.picture))]
    for caption, text in PANELS.items():
        vocabulary = parse_vocabulary(text, "shore.yaml")
        drawings.append(captioned(caption, labelled(segmenter, scene.picture, vocabulary)))
    path = Path(__file__).with_name("vocabularies.jpg")
    side_by_side(drawings).save(path, quality=90)
    print(path)


def labelled(segmenter: Segmenter, picture: np.ndarray, vocabulary: Vocabulary) -> Image.Image:
    """The labels in the vocabulary's colours, black where they are ignored; says on the terminal how much there is."""
    decision = decide(segmenter(picture, segmenter.compile(vocabulary)), vocabulary)
    shares = ", ".join(f"{each['name']} {each['fraction']:.1%}" for each in decision.classes)
    print(f"{shares}, ignored {decision.ignored_fraction:.1%}")
    return Image.fromarray(paint(decision.mask, {each.id: each.color for each in vocabulary.classes}))


def captioned(text: str, image: Image.Image) -> Image.Image:
    """The image below a line of text."""
    whole = Image.new("RGB", (image.width + GAP_PX, image.height + CAPTION_PX), "white")
    whole.paste(image, (0, CAPTION_PX))
    font = ImageFont.load_default(FONT_PX)
    ImageDraw.Draw(whole).text((2, CAPTION_PX // 2), text, fill="black", font=font, anchor="lm")
    return whole


if __name__ == "__main__":
    main()
