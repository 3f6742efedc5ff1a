"""The paper's recipe at full size: escnet-b16 from files in SAM's and open_clip's layouts, two optimiser steps."""

import re
from dataclasses import dataclass

import open_clip
import pytest
import torch

from escnet.clip import build_tokenizer
from escnet.config import preset_config
from escnet.importing import import_escnet
from escnet.losses import IGNORED
from escnet.network import EscNet
from escnet.training import LossWeights, TrainingBatch, TrainingModel, Words, parameter_groups
from tests.escnet.model_files import sam_weights

ARCH = "ViT-B-16-quickgelu"
N_STEPS = 2
# A tenth of the paper's: Adam's first steps are of one size whatever the gradient, and the full one oversteps.
RATES = {"learning_rate": 2e-5, "clip_sam_learning_rate": 2e-7, "weight_decay": 1e-4}


@dataclass(frozen=True)
class Run:
    """A network after its two steps, its parameters before them, and the loss before each step and after the last."""

    network: EscNet
    before: dict[str, torch.Tensor]
    losses: list[float]

    def changed(self) -> set[str]:
        return {name for name, after in self.network.named_parameters() if not torch.equal(after, self.before[name])}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("official")
    torch.manual_seed(7)
    clip = open_clip.CLIP(**open_clip.get_model_config(ARCH)).half()  # as OpenAI's weights are stored
    torch.save(clip.state_dict(), folder / "clip.pt")
    torch.save(sam_weights(), folder / "sam_vit_b.pth")
    network, _ = import_escnet(clip=ARCH, clip_pretrained=str(folder / "clip.pt"), sam=folder / "sam_vit_b.pth")
    (folder / "clip.pt").unlink()  # 300 MB
    return network


def one_picture(config) -> TrainingBatch:
    """Noise, bright on the left, which is a dog, and dark on the right, a wall; a strip at the top is not labelled."""
    side = config.image_size
    target = torch.zeros(1, side, side, dtype=torch.int64)
    target[..., side // 2 :] = 1
    tokens = build_tokenizer(config)(["A photo of a dog in the scene", "A photo of a wall in the scene"])
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)) + 1 - 2 * target[:, None]
    target[:, :32] = IGNORED
    return TrainingBatch(pixels, (Words(target, tokens, torch.arange(2)),))


@pytest.fixture(scope="module")
def run(imported):
    before = {name: parameter.detach().clone() for name, parameter in imported.named_parameters()}
    groups = parameter_groups(imported.train(), "paper", **RATES)
    optimiser, model, batch = torch.optim.AdamW(groups), TrainingModel(imported), one_picture(imported.config)
    losses = []
    for _ in range(N_STEPS):
        loss = model(batch, LossWeights())["segmentation"]
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        losses.append(model(batch, LossWeights())["segmentation"].item())
    return Run(imported, before, losses)


def test_the_network_is_the_preset(run):
    assert run.network.config == preset_config("escnet-b16")


def test_the_loss_falls_on_a_picture_seen_again(run):
    print(run.losses)
    assert run.losses[0] > run.losses[1] > run.losses[2]


def may_learn(name: str) -> bool:
    """The paper's: attention of CLIP (query, value, positions) and of the SAM blocks, and what is new."""
    if name.startswith("clip."):
        return name.endswith(("attn.in_proj_weight", "attn.in_proj_bias", "positional_embedding"))
    if ".sam.transformer." in name:
        return ".layers." in name and "attn" in name
    return bool(re.match(r"blocks\.\d\.(sam\.image_projection|fuse|vlf|to_correlation)|decoder", name))


def test_only_what_the_paper_trains_changes(run):
    changed = run.changed()
    assert {name for name in changed if not may_learn(name)} == set()
    silent = {name for name in run.before if may_learn(name)} - changed
    # Softmax does not see what is added to all keys alike, so these have no gradient but rounding.
    assert {name for name in silent if not name.endswith("k_proj.bias")} == set()


def test_clips_queries_and_values_change_and_its_keys_not_to_the_bit(run):
    after = dict(run.network.named_parameters())
    last_of_image = f"clip.visual.transformer.resblocks.{run.network.config.clip['vision_cfg']['layers'] - 1}."
    names = [name for name in run.before if ".attn.in_proj_" in name]
    assert len(names) == 2 * (12 + 12)
    for name in names:
        queries, keys, values = (
            torch.equal(*each) for each in zip(run.before[name].chunk(3), after[name].chunk(3), strict=True)
        )
        passes_values_only = name.startswith(last_of_image)
        assert (queries, keys, values) == (passes_values_only, True, False), name


def test_every_patch_has_its_position_trained_and_of_the_words_those_in_use(run):
    after = dict(run.network.named_parameters())
    for name, n_trained in (("clip.visual.positional_embedding", 1 + 24 * 24), ("clip.positional_embedding", 10)):
        rows = (run.before[name] != after[name]).any(dim=1)
        assert rows.tolist() == [True] * n_trained + [False] * (len(rows) - n_trained)
