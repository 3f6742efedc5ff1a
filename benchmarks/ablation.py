"""What each part behind the image tower brings: rows of one training budget on one frozen CLIP.

    python benchmarks/ablation.py --clip escnet-nano --json ablation.json

Blocks and decoder are trained from nothing for each row; CLIP is that of a checkpoint and rests. Scores are on scenes
with 48 classes, half of the objects held out. A row takes about four minutes on a core.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from escnet.config import EscNetConfig, preset_config
from escnet.models import load_model, resolve_model
from pipeline.demo_world.folder import N_OBJECTS, world_scene
from pipeline.demo_world.names import draw_names, world_vocabulary
from pipeline.training.config import TrainingConfig
from pipeline.training.loop import Hooks, Trainer, build_network
from pipeline.training.samples import Sample, WorldScenes
from pipeline.training.validation import Validator

ROWS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "no SAM transformer": {"sam": {**preset_config("escnet-nano").sam.model_dump(), "depth": 0}},
    "one block": {"n_blocks": 1},
    "four blocks": {"n_blocks": 4},
    "fusion mean": {"fusion": "mean"},
    "binary cross-entropy": {"loss": "binary_cross_entropy"},
    "alpha 1.5": {"prompt_threshold": 1.5},
}
SEED = 12_345  # of the scenes that are measured on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", default="escnet-nano", help="model whose CLIP all rows share")
    parser.add_argument("--steps", type=int, default=160, help="of four scenes each")
    parser.add_argument("--scenes", type=int, default=40, help="to measure on")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--json", type=Path, help="file that gets a line a row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clip = load_model(resolve_model(options.clip)).clip.state_dict()
    for row in options.rows:
        found = {"row": row} | measure_row(ROWS[row], clip, options.steps, options.scenes)
        print(json.dumps(found), flush=True)
        if options.json:
            with options.json.open("a") as file:
                file.write(json.dumps(found) + "\n")


def measure_row(
    changes: dict[str, Any], clip: dict[str, torch.Tensor], n_steps: int, n_scenes: int
) -> dict[str, float]:
    """Train and measure one row."""
    model = EscNetConfig(**(preset_config("escnet-nano").model_dump() | changes))
    network = build_network(model, seed=0)
    network.clip.load_state_dict(clip)
    trainer = Trainer(
        recipe(n_steps), network, [[WorldScenes(77, model.image_size)]], device=torch.device("cpu"), validator=None
    )
    started = time.process_time()
    trainer.run(Hooks(lambda _: None, lambda *_: None))
    trained = time.process_time()
    scores = validator(n_scenes, model.image_size).measure(trainer.trained.eval(), segments=True)
    costs = {"train_cpu_s": trained - started, "picture_cpu_s": (time.process_time() - trained) / n_scenes}
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    return {name: round(value, 4) for name, value in (scores | costs).items()} | {"parameters": n_parameters}


def recipe(n_steps: int) -> TrainingConfig:
    """Scenes alone, for the blocks alone."""
    return TrainingConfig.model_validate(
        {
            "name": "ablation",
            "model": {"preset": "escnet-nano"},
            "trainable": "blocks",
            "weight_decay": 0.02,
            "ema_decay": 0.98,
            "checkpoint_every": n_steps,
            "stages": [
                {
                    "name": "blocks",
                    "steps": n_steps,
                    "data": [{"demo_world": "scenes"}],
                    "classes_per_picture": 8,
                    "learning_rate": 2e-3,
                    "warmup_steps": 20,
                }
            ],
        }
    )


def validator(n_scenes: int, side_px: int) -> Validator:
    objects = draw_names(SEED, N_OBJECTS)
    scenes = (world_scene(objects, SEED, number, side_px) for number in range(n_scenes))
    samples = [Sample(scene.picture, scene.mask.astype(np.int32)) for scene in scenes]
    return Validator(samples, world_vocabulary(objects, name="demo-world"), every=1)


if __name__ == "__main__":
    main()
