"""The training loop: it learns, it adds micro-batches up, and it goes on where it stopped as if it had not."""

import numpy as np
import pytest
import torch
from torch import distributed

from escnet.config import PyramidConfig
from pipeline.training.batches import Worker
from pipeline.training.config import TrainingConfig
from pipeline.training.loop import Hooks, Trainer
from pipeline.training.naming import VocabularyNamer
from pipeline.training.samples import Sample
from pipeline.training.validation import Validator
from schemas.errors import InputError, ModelError
from schemas.vocabulary import Vocabulary
from tests.escnet.tiny import tiny_config, tiny_network

WORDS = Vocabulary(name="words", classes=["dark", "bright"])
TIMED = "pictures_a_second"


class Sides:
    """Pictures dark on the left and bright on the right, without ignored pixels."""

    namer = VocabularyNamer(WORDS)

    def sample(self, number):
        mask = np.zeros((64, 64), np.int32)
        mask[:, 10 + number * 7 % 45 :] = 1
        noise = np.random.default_rng(number).integers(-20, 20, (64, 64, 3))
        return Sample((np.where(mask[..., None], 200, 40) + noise).astype(np.uint8), mask)


class Broken(Sides):
    def sample(self, number):
        if number == 5:
            raise InputError("picture 'five' cannot be read")
        return super().sample(number)


def config(**changes) -> TrainingConfig:
    stage = {"name": "one", "steps": 6, "data": [{"demo_world": "scenes"}], "batch_size": 2, "micro_batch_size": 2}
    stage |= {"learning_rate": 2e-3, "warmup_steps": 2} | changes.pop("stage", {})
    plain = {"name": "n", "model": {"preset": "escnet-nano"}, "trainable": "all", "precision": "float32"}
    return TrainingConfig(**(plain | {"log_every": 2, "checkpoint_every": 3, "stages": [stage]} | changes))


def trainer(recipe: TrainingConfig, source=None, network=None, device="cpu", **more) -> Trainer:
    return Trainer(
        recipe,
        network or tiny_network(n_blocks=1, trained_tokens=(320, 530)),
        [[source or Sides()] for _ in recipe.stages],
        device=torch.device(device),
        **more,
    )


def run(one: Trainer, must_stop=lambda _: False):
    """What the run records, without the pace, and the states it saves."""
    records, states = [], {}
    is_done = one.run(Hooks(records.append, lambda step, state: states.update({step: copied(state)}), must_stop))
    return [{k: v for k, v in record.items() if k != TIMED} for record in records], states, is_done


def copied(state):
    """As a file would keep it: the run goes on changing its own tensors."""
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def weights(one: Trainer):
    return torch.cat([parameter.detach().flatten() for parameter in one.trained.parameters()])


def test_a_short_training_learns_the_pictures_and_the_words():
    recipe = config(stage={"steps": 30, "losses": {"segmentation": 1, "alignment": 1}})
    samples = [Sides().sample(number) for number in range(1000, 1004)]
    one = trainer(recipe, validator=Validator(samples, WORDS, every=15))
    records, _, _ = run(one)
    losses = [record["loss"] for record in records if "loss" in record]
    assert losses[-1] < losses[0] / 3
    first, last = (record for record in records if "miou" in record)
    assert last["step"] == 30
    assert last["miou"] > 0.9
    assert last["patch_accuracy"] > 0.9
    assert last["patch_accuracy"] >= first["patch_accuracy"]


def test_micro_batches_add_up_to_the_batch():
    whole, parts = trainer(config()), trainer(config(stage={"micro_batch_size": 1}))
    expected, found = run(whole)[0], run(parts)[0]
    assert [record["loss"] for record in found] == pytest.approx([record["loss"] for record in expected], rel=1e-4)
    after = dict(whole.network.named_parameters())
    del after["decoder.head.bias"]  # softmax does not see it: its gradient is rounding, which Adam makes a full step
    differing = [
        name for name, p in parts.network.named_parameters() if name in after and (p - after[name]).abs().max() > 2e-4
    ]
    assert differing == []


@pytest.mark.parametrize("n_loader_processes", [0, 1])
def test_a_run_that_goes_on_from_a_state_is_the_same_run(n_loader_processes):
    recipe = config(ema_decay=0.8, stages=[config(stage={"steps": n}).stages[0].model_dump() for n in (4, 3)])
    whole, later = trainer(recipe), trainer(recipe, n_loader_processes=n_loader_processes)
    records, states, _ = run(whole)
    assert sorted(states) == [3, 4, 6, 7]  # 3 is between two lines of the curve
    later.restore(states[3])
    assert run(later)[0] == [record for record in records if record["step"] > 3]
    assert torch.equal(weights(later), weights(whole))


def test_the_average_is_another_network_than_the_last():
    one = trainer(config(ema_decay=0.8))
    run(one)
    assert not torch.equal(weights(one), torch.cat([p.detach().flatten() for p in one.network.parameters()]))


def with_batch_norm():
    clip = {key: value for key, value in tiny_config().clip.items() if key != "vision_cfg"}
    pyramid = PyramidConfig(stem=4, dims=(6, 8), depths=(1, 1), output_stage=1)
    return tiny_network(n_blocks=1, trained_tokens=(320, 530), clip=clip, pyramid=pyramid, tap_layers=(1, 0))


def test_the_statistics_of_batch_norms_are_averaged_with_the_weights():
    one = trainer(config(ema_decay=0.2, checkpoint_every=1, stage={"steps": 4}), network=with_batch_norm())
    before = copied(one.network.state_dict())
    _, states, _ = run(one)
    names = [name for name in states[1]["network"] if name.endswith(("running_mean", "running_var", "conv1.weight"))]
    assert len(names) > 10
    for name in names:
        expected = before[name]
        for step, decay in enumerate((1 / 10, 2 / 11, 0.2, 0.2), start=1):  # as 0.2 allows: 3 / 12 is more
            expected = decay * expected + (1 - decay) * states[step]["network"][name]
        torch.testing.assert_close(one.trained.state_dict()[name], expected)
    mask = one.network.clip.attn_mask  # with infinite values, of which an average is no number
    assert torch.equal(one.trained.clip.attn_mask, mask)


TEXT = ("clip.transformer.", "clip.token_embedding.", "clip.positional_embedding", "clip.ln_final.", "clip.text_proj")


def test_a_text_tower_at_rate_0_rests_to_the_bit_and_goes_on_in_the_next_stage():
    """While the rest learns, and though AdamW has moments of it from the stage before."""
    stages = [config(stage={"steps": 2, "losses": {"alignment": 1}, "text_rate": rate}).stages[0] for rate in (1, 0, 1)]
    one = trainer(config(stages=[stage.model_dump() for stage in stages], checkpoint_every=2))
    states = run(one)[1]
    assert list(states) == [2, 4, 6]
    weights_at = [
        {name: states[step]["network"][name] for name, _ in one.network.named_parameters()} for step in states
    ]
    for before, after, rests in zip(weights_at[:2], weights_at[1:], (True, False), strict=True):
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert {name for name in changed if not name.startswith(TEXT)}
        text = {name for name in before if name.startswith(TEXT)}
        assert bool(changed & text) != rests


def test_a_run_that_is_to_stop_saves_a_state_at_once_and_goes_on_as_if_it_had_not():
    whole = {record["step"]: record["loss"] for record in run(trainer(config()))[0]}
    records, states, is_done = run(trainer(config()), must_stop=lambda _: True)
    assert (is_done, records, list(states)) == (False, [], [1])
    later = trainer(config())
    later.restore(states[1])
    assert {record["step"]: record["loss"] for record in run(later)[0]} == whole


def test_the_rate_rises_and_falls_by_a_cosine():
    rates = [record["learning_rate"] for record in run(trainer(config(log_every=1)))[0]]
    cosine = [(1 + np.cos(np.pi * step / 6)) / 2 * 2e-3 for step in range(6)]
    assert rates == pytest.approx([cosine[0] / 2, *cosine[1:]])


@pytest.mark.parametrize("n_loader_processes", [0, 1])
def test_a_picture_that_cannot_be_used_ends_the_run_in_one_line(n_loader_processes):
    with pytest.raises(InputError, match=r"^picture 'five' cannot be read$"):
        run(trainer(config(), Broken(), n_loader_processes=n_loader_processes))


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_loss_that_is_no_number_ends_the_run_before_a_state_is_saved(precision):
    one = trainer(config(stage={"steps": 6}, checkpoint_every=1, log_every=1, precision=precision))
    with torch.no_grad():
        next(one.network.decoder.parameters()).fill_(torch.nan)
    states = {}
    with pytest.raises(ModelError, match="training stopped at step 1: loss nan"):
        one.run(Hooks(lambda _: None, lambda step, state: states.update({step: state})))
    assert states == {}


def test_a_measurement_that_dies_loses_no_step():
    class Dying(Validator):
        def measure(self, network, *, segments):  # noqa: ARG002
            raise MemoryError

    recipe = config(checkpoint_every=100)
    states = {}
    one = trainer(recipe, validator=Dying([], WORDS, every=100))
    with pytest.raises(MemoryError):
        one.run(Hooks(lambda _: None, lambda step, state: states.update({step: copied(state)})))
    later = trainer(recipe)
    later.restore(states[6])
    assert run(later) == ([], {}, True)


def test_the_state_of_several_workers_has_the_losses_of_all(monkeypatch):
    """One between two lines of the curve, which the first worker writes, of two workers with losses of that ratio."""

    def sums(ratio):
        monkeypatch.setattr(distributed, "all_reduce", lambda sums: sums.mul_(1 + ratio))
        recipe = config(checkpoint_every=1, stage={"steps": 2, "micro_batch_size": 1})
        return run(trainer(recipe, worker=Worker(0, 2)))[1][1]["sums"]

    assert sums(3) == pytest.approx({name: 2 * value for name, value in sums(1).items()})


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("classes_per_picture", [None, 1])
def test_a_gpu_learns_and_goes_on_from_its_state(precision, classes_per_picture):
    stage = {"steps": 30, "losses": {"segmentation": 1, "alignment": 1}, "classes_per_picture": classes_per_picture}
    recipe = config(stage=stage, precision=precision, checkpoint_every=15, ema_decay=0.5)
    samples = [Sides().sample(number) for number in range(1000, 1004)]
    validator = Validator(samples, WORDS, every=30, dtype=precision)
    one = trainer(recipe, device="cuda", validator=validator, n_loader_processes=2)
    records, states, _ = run(one)
    losses = [record["loss"] for record in records if "loss" in record]
    assert losses[-1] < losses[0] / 2
    assert records[-1]["miou"] > 0.8
    assert next(one.trained.parameters()).is_cuda
    later = trainer(recipe, device="cuda")
    later.restore(states[15])
    resumed = [record["loss"] for record in run(later)[0] if "loss" in record]
    assert resumed[0] == pytest.approx(losses[-len(resumed)], rel=0.1)
