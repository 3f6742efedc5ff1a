"""What `make demo` and the pages show."""

import io
import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from escnet.models import load_model, resolve_model
from escnet.segmenter import Segmenter
from pipeline.demo_world.folder import N_OBJECTS, world_scene
from pipeline.demo_world.names import class_id, draw_names
from schemas.vocabulary_files import parse_vocabulary

WORDS = 'name: words\nclasses: [{id: 3, name: brick, color: "#0a141e"}]\n'
MAIN = runpy.run_path(str(Path(__file__).parents[1] / "examples/read_labels.py"))["main"]


def labelled(image_id: str, uri: Path, mask: np.ndarray) -> dict:
    png = io.BytesIO()
    Image.fromarray(mask).save(png, "png")
    classes = [{"class_id": 3, "name": "brick", "pixels": mask.size, "fraction": 1.0}]
    row = {
        "image_id": image_id,
        "uri": str(uri),
        "status": "labelled",
        "vocabulary": "words",
        "mask": png.getvalue(),
        "classes": classes,
    }
    return row | {"confidence_mean": 0.5, "error_stage": None, "error_kind": None, "error_message": None}


def test_pictures_are_drawn_beside_their_labels_and_labels_alone_where_the_picture_is_gone(tmp_path, capsys):
    Image.new("RGB", (40, 30), (200, 0, 0)).save(tmp_path / "here.png")
    mask = np.full((30, 40), 3, np.uint16)
    failed = dict.fromkeys(("mask", "classes", "confidence_mean"))
    failed |= {"image_id": "c.png", "uri": "c.png", "status": "failed", "error_stage": "decode"}
    failed |= {"error_kind": "corrupt", "error_message": "no end"}
    rows = [labelled("a.png", tmp_path / "here.png", mask), labelled("b.png", tmp_path / "gone.png", mask), failed]
    (tmp_path / "out/labels").mkdir(parents=True)
    (tmp_path / "out/vocabularies").mkdir()
    (tmp_path / "out/vocabularies/words.yaml").write_text(WORDS)
    table = pa.Table.from_pylist(rows)
    for name, part in {"0": table.slice(2), "1": table.slice(0, 2)}.items():
        pq.write_table(part, tmp_path / f"out/labels/{name}.parquet")

    MAIN(str(tmp_path / "out"), str(tmp_path / "drawings"))

    assert sorted(path.name for path in (tmp_path / "drawings").iterdir()) == ["a.png.png", "b.png.png"]
    beside, alone = (np.asarray(Image.open(tmp_path / "drawings" / name)) for name in ("a.png.png", "b.png.png"))
    legend = beside.shape[1] - 80
    assert alone.shape == (30, 40 + legend, 3)
    assert beside[29, 0].tolist() == [200, 0, 0]
    assert beside[29, 40].tolist() == alone[29, 0].tolist() == [10, 20, 30]
    assert alone[10, 40 + 12].tolist() == [10, 20, 30]  # the legend's swatch
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["a.png", "labelled", "0.50", "brick", "100%"],
        ["b.png", "labelled", "0.50", "brick", "100%"],
        ["c.png", "failed", "decode/corrupt:", "no", "end"],
    ]


def test_the_vocabularies_drawn_for_the_documentation_do_what_the_page_says():
    script = runpy.run_path(str(Path(__file__).parents[1] / "docs/draw_vocabularies.py"))
    scene = world_scene(draw_names(script["SEED"], N_OBJECTS), script["SEED"], script["SCENE"])
    segmenter = Segmenter(load_model(resolve_model("escnet-nano")), views="single")
    found = {
        caption: np.asarray(script["labelled"](segmenter, scene.picture, parse_vocabulary(text, "shore.yaml")))
        for caption, text in script["PANELS"].items()
    }
    is_water = scene.mask == class_id("water")
    black = {caption: (drawing == 0).all(-1) for caption, drawing in found.items()}
    assert not black["no thresholds"].any()
    assert 0.5 < black["min_confidence: 0.8"][is_water].mean() < black["distractors: [water]"][is_water].mean()
    assert black["distractors: [water]"][is_water].mean() > 0.98
    assert black["distractors: [water]"][~is_water].mean() < 0.02
    assert len(np.unique(found["level: parent"].reshape(-1, 3), axis=0)) == 3  # ground, object, black
