"""ESC-Net beside the code of CAT-Seg's authors, in turn in one process: CPU seconds a picture against the vocabulary.

    git clone https://github.com/cvlab-kaist/CAT-Seg
    pip install einops
    python benchmarks/catseg_authors.py CAT-Seg --json benchmarks/catseg-authors.json

Their network is built and called as their configuration `vitb_384.yaml` has it, with one view of a picture of 384 x 384
and random weights; of detectron2, which they ask for, nothing that costs time is used, so that small stand-ins do. One
thread, float32. Text is encoded once by all. Of the passes that fit into --seconds, one at least, the fastest is kept.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `tests`, which knows the names of their weights

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escnet.catseg.config import CatSegConfig
from escnet.config import preset_config
from escnet.models import load_model, resolve_model
from escnet.segmenter import Segmenter
from schemas.vocabulary import Vocabulary
from tests.escnet.catseg.official import CLIP, official_weights, picture

SIDE = 384


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="CAT-Seg as its authors publish it")
    parser.add_argument("--classes", nargs="+", type=int, default=[20, 150, 847])
    parser.add_argument("--seconds", type=float, default=60, help="for each number of classes")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    stand_in_for_detectron2(asked.checkout)
    seconds = {n: measure(n, asked.seconds) for n in asked.classes}
    if asked.json:
        found = {"command": shlex.join(["python", *sys.argv]), "torch": torch.__version__, "seconds": seconds}
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


def measure(n_classes: int, budget_s: float) -> dict[str, float]:
    """Fewest CPU seconds of each network."""
    names, shown = [f"thing {i}" for i in range(n_classes)], picture((SIDE, SIDE))
    passes = {"CAT-Seg, its authors' code": authors_network(names, torch.from_numpy(shown).permute(2, 0, 1).float())}
    for name, preset, preselect in (
        ("cat-seg-b16", "cat-seg-b16", "off"),
        ("escnet-b16, all classes", "escnet-b16", "off"),
        ("escnet-b16, 32 preselected", "escnet-b16", 32),
    ):
        network = load_model(resolve_model(preset, allow_random_weights=True))
        segmenter = Segmenter(network, views="single", preselect=preselect)
        compiled = segmenter.compile(Vocabulary(name="things", classes=names))
        passes[name] = lambda segmenter=segmenter, compiled=compiled: segmenter(shown, compiled)
    fastest = dict.fromkeys(passes, float("inf"))
    for run in passes.values():  # warms up, and encodes their text
        run()
    end = time.monotonic() + budget_s
    while True:
        for name, run in passes.items():
            started = time.process_time()
            run()
            fastest[name] = round(min(fastest[name], time.process_time() - started), 3)
        if time.monotonic() > end:
            break
    print(n_classes, json.dumps(fastest), flush=True)
    return fastest


def authors_network(names: list[str], pixels: Tensor) -> Callable[[], Any]:
    """A pass of CAT-Seg ViT-B/16 as its authors wrote it over `pixels`, (3, 384, 384)."""
    from cat_seg.cat_seg_model import CATSeg
    from cat_seg.modeling.heads.cat_seg_head import CATSegHead
    from cat_seg.modeling.transformer.cat_seg_predictor import CATSegPredictor
    from cat_seg.third_party import clip, model_vpt

    config = preset_config("cat-seg-b16")
    assert isinstance(config, CatSegConfig)
    weights = official_weights(config)
    text, width = config.clip["text_cfg"], config.clip["vision_cfg"]["width"]
    tower = model_vpt.CLIP(
        512, 224, 12, width, 16, 77, text["vocab_size"], text["width"], text["heads"], text["layers"]
    )
    tower.load_state_dict({name.removeprefix(CLIP): each for name, each in weights.items() if name.startswith(CLIP)})
    clip.load = lambda *_, **__: (tower.eval(), None)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as words:
        json.dump(names, words)
        words.flush()
        predictor = CATSegPredictor(
            train_class_json=words.name, test_class_json=words.name, clip_pretrained="ViT-B/16",
            prompt_ensemble_type="single", text_guidance_dim=512, text_guidance_proj_dim=128,
            appearance_guidance_dim=512, appearance_guidance_proj_dim=128, prompt_depth=0, prompt_length=0,
            decoder_dims=[64, 32], decoder_guidance_dims=[256, 128], decoder_guidance_proj_dims=[32, 16],
            num_heads=4, num_layers=2, hidden_dims=128, pooling_sizes=[1, 1], feature_resolution=[24, 24],
            window_sizes=12, attention_type="linear",
        )  # fmt: skip
    head = CATSegHead(
        num_classes=len(names), ignore_value=255, feature_resolution=[24, 24], transformer_predictor=predictor
    )
    network = CATSeg(
        backbone=None, sem_seg_head=head, size_divisibility=SIDE, pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375], clip_pixel_mean=[122.771, 116.746, 104.094],
        clip_pixel_std=[68.5, 66.632, 70.323], train_class_json="", test_class_json="", sliding_window=False,
        clip_finetune="attention", backbone_multiplier=0.0, clip_pretrained="ViT-B/16",
    ).eval()  # fmt: skip
    masks = {name: each for name, each in network.state_dict().items() if name.endswith("attn_mask")}
    network.load_state_dict(weights | masks)
    return lambda: network([{"image": pixels, "height": SIDE, "width": SIDE}])


def stand_in_for_detectron2(checkout: Path) -> None:
    """Lets `cat_seg` be imported from `checkout` without detectron2, and without its data sets and training."""
    registry = SimpleNamespace(register=lambda: lambda found: found)
    batch = SimpleNamespace(
        from_tensors=lambda tensors, _: SimpleNamespace(tensor=torch.stack(tensors), image_sizes=[(SIDE, SIDE)])
    )
    modules: dict[str, dict[str, Any]] = {
        "detectron2": {},
        "detectron2.config": {"configurable": lambda function: function},
        "detectron2.data": {"MetadataCatalog": None},
        "detectron2.layers": {"Conv2d": nn.Conv2d, "ShapeSpec": None, "get_norm": None},
        "detectron2.modeling": {
            "META_ARCH_REGISTRY": registry, "SEM_SEG_HEADS_REGISTRY": registry,
            "build_backbone": None, "build_sem_seg_head": None,
        },
        "detectron2.modeling.backbone": {"Backbone": object},
        "detectron2.modeling.postprocessing": {"sem_seg_postprocess": _enlarge},
        "detectron2.structures": {"ImageList": batch},
        "detectron2.utils": {},
        "detectron2.utils.memory": {"_ignore_torch_cuda_oom": None},
        "fvcore": {},
        "fvcore.nn": {"weight_init": None},
        "fvcore.nn.weight_init": {},
    }  # fmt: skip
    for part in (
        "",
        ".modeling",
        ".modeling.heads",
        ".modeling.transformer",
    ):  # packages whose own start is passed over
        folder = checkout.joinpath("cat_seg", *part.split(".")[1:])
        modules[f"cat_seg{part}"] = {"__path__": [str(folder)]}
    for name, contents in modules.items():
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__dict__.update(contents)
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor  # they move text to the GPU whatever the device


def _enlarge(logits: Tensor, image_size: tuple[int, int], height: int, width: int) -> Tensor:
    cut = logits[:, : image_size[0], : image_size[1]]
    return F.interpolate(cut.unsqueeze(0), size=(height, width), mode="bilinear", align_corners=False)[0]


if __name__ == "__main__":
    main()
