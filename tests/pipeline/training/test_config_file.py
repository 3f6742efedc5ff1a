"""Recipes in YAML: what they come to, and one line for everything that is wrong with one."""

from pathlib import Path

import pytest

from escnet.checkpoint import save_checkpoint
from pipeline.training.config_file import model_config, read_config
from schemas.errors import InputError
from tests.escnet.tiny import tiny_network

CONFIGS = Path(__file__).resolve().parents[3] / "configs"

RECIPE = """\
name: small
model: {preset: escnet-nano}
trainable: all
stages:
  - name: one
    steps: 10
    learning_rate: 2e-4
    data: [{manifest: m.csv, vocabulary: v.txt}]
"""


@pytest.fixture
def recipe(tmp_path):
    def write(text=RECIPE):
        (tmp_path / "r.yaml").write_text(text)
        return str(tmp_path / "r.yaml")

    return write


def test_a_recipe_is_read_with_its_defaults(recipe):
    found = read_config(recipe())
    stage = found.stages[0]
    assert (found.name, found.n_steps, found.ema_decay) == ("small", 10, 0.0)
    assert (stage.learning_rate, stage.batch_size, stage.data[0].smallest_crop) == (2e-4, 4, 0.5)


def test_values_of_the_command_line_replace_those_of_the_file(recipe):
    overrides = ("stages.0.steps=7", "ema_decay=0.9", "model.changes.sam.embed_dim=32", "stages.0.data.0.flip=false")
    found = read_config(recipe(), overrides)
    assert (found.n_steps, found.ema_decay, found.stages[0].data[0].flip) == (7, 0.9, False)
    model = model_config(found.model)
    assert (model.sam.embed_dim, model.sam.mlp_dim) == (32, 128)  # the preset's own, not SAM's


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps: 10", "stepz: 10", "line 6: stages.0.stepz: unknown key; did you mean 'steps'?; known are name, steps"),
        ("steps: 10", "steps: ten", "line 6: stages.0.steps: found 'ten', expected a valid integer"),
        ("steps: 10", "steps: 0", "line 6: stages.0.steps: found `0`, expected greater than 0"),
        ("    steps: 10\n", "", "line 5: stages.0.steps: missing; add it"),
        ("name: small", "name: a/b", "line 1: name: found 'a/b', expected"),
        ("{preset: escnet-nano}", "{preset: escnet-nan}", "line 2: model: preset: escnet-nan: no such model"),
        ("{preset: escnet-nano}", "{}", "line 2: model: expected either preset or checkpoint"),
        ("{preset: escnet-nano}", "{checkpoint: gone.safetensors}", "model: gone.safetensors: no such file"),
        (
            "nano}",
            "nano, changes: {hiden_dim: 4}}",
            "line 2: model: changes: unknown setting 'hiden_dim'; did you mean",
        ),
        ("nano}", "nano, changes: {hidden_dim: 33}}", "changes: hidden_dim 33 must be a multiple of attention_heads"),
        (", vocabulary: v.txt", "", "line 8: stages.0.data.0: a manifest needs `vocabulary`"),
        ("manifest: m.csv", "manifest: m.csv, labels: l", "found manifest and labels"),
        ("manifest: m.csv", "demo_world: scenes", "line 8: stages.0.data.0.vocabulary: has no effect on demo_world"),
        ("trainable: all", "trainable: paper", "line 3: trainable: found paper with a preset"),
        ("steps: 10", "batch_size: 6\n    steps: 10", "batch_size 6 must be a multiple of micro_batch_size 4"),
        (
            "trainable: all",
            "trainable: all\ntemplates: ['a {} of {}']",
            "line 4: templates.0: found 'a {} of {}'; expected",
        ),
        (
            "trainable: all",
            "trainable: all\ntemplates: ['a photo']",
            "line 4: templates.0: found 'a photo'; expected ex",
        ),
        (RECIPE, "[]", "found an empty list, expected a training recipe"),
        (RECIPE, "name: [", "not YAML"),
        ("name: small", "name: small\nname: twice", "line 2: key 'name' stands twice"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_line_and_key(recipe, old, new, said):
    path = recipe(RECIPE.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_config(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("steps", "--set steps: expected KEY=VALUE"),
        ("stages.1.steps=3", "--set stages.1.steps: 1 names nothing in a list of 1"),
        ("stages.0.steps=x", "--set stages.0.steps: found 'x', expected a valid integer"),
        ("stages.0.stepz=3", "--set stages.0.stepz: unknown key; did you mean 'steps'?"),
        ("seed=[", "--set seed: not YAML"),
        ("model.changes.hidden_dim=33", "model: changes: hidden_dim 33"),
        ("name.first=x", "--set name.first: 'first' names nothing in 'small'"),
    ],
)
def test_what_is_wrong_on_the_command_line_names_it(recipe, override, said):
    with pytest.raises(InputError) as caught:
        read_config(recipe(), (override,))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


START = "model.checkpoint=start.safetensors", "model.preset=null"
WORLD = "stages.0.data=[{demo_world: scenes, %s}]"
MEASURED = "validation={data: {manifest: m.csv, vocabulary: v.txt, %s}}"
ALIGNED = "stages.0.losses={segmentation: 0, alignment: 1}"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("spread_names=true", *START), "spread_names: found true, which would undo what the CLIP of a checkpoint has"),
        (("spread_names=true", "model.clip_from=start.safetensors"), "spread_names: found true, which would undo"),
        (
            ("spread_names=true", "trainable=blocks", "model.clip_from=start.safetensors"),
            "spread_names: found true, which would undo",
        ),
        (
            ("spread_names=true", "model.changes.clip.text_cfg.width=64"),
            "spread_names: found true with a text tower of width 64, expected the embed_dim 128",
        ),
        (("trainable=blocks", ALIGNED, *START), "stages.0.losses: found no segmentation loss with trainable: blocks"),
        ((ALIGNED, "stages.0.classes_per_picture=8"), "classes_per_picture: has no effect without a segmentation loss"),
        (("trainable=paper", "stages.0.text_rate=0.1", *START), "stages.0.text_rate: has no effect with trainable: pa"),
        (("clip_sam_rate=0.1",), "clip_sam_rate: has no effect with trainable: all, only with paper; leave it out"),
        ((WORLD % "flip: true",), "stages.0.data.0.flip: has no effect on demo_world; leave it out"),
        ((WORLD % "smallest_crop: 0.5",), "stages.0.data.0.smallest_crop: has no effect on demo_world"),
        ((WORLD % "color_jitter: 0",), "stages.0.data.0.color_jitter: has no effect on demo_world"),
        ((MEASURED % "weight: 2",), "validation.data.weight: has no effect on pictures that are measured whole"),
        ((MEASURED % "flip: false",), "validation.data.flip: has no effect on pictures that are measured whole"),
    ],
)
def test_settings_that_do_not_go_together_or_have_no_effect_are_refused(recipe, tmp_path, monkeypatch, overrides, said):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tiny_network(n_blocks=1, trained_tokens=(320, 530)), "start.safetensors", {})
    with pytest.raises(InputError) as caught:
        read_config(recipe(), overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_with_an_effect_pass(recipe):
    assert read_config(recipe(), (WORLD % "weight: 2", "spread_names=true", "stages.0.text_rate=0")).spread_names
    assert read_config(recipe(), (MEASURED % "split: val", "stages.0.classes_per_picture=8")).validation
    assert read_config(recipe(), (ALIGNED, "stages.0.classes_per_picture=null")).n_steps == 10


def test_a_recipe_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"r\.yaml: .*"):
        read_config(str(tmp_path / "r.yaml"))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_recipes_of_the_checkout_are_sound(path):
    """Those that start from an imported checkpoint are read as if they began with the preset."""
    from_preset = () if "nano" in path.name else ("model={preset: escnet-b16}", "trainable=all")
    found = read_config(str(path), from_preset)
    assert found.name == path.stem
    assert all(stage.batch_size % stage.micro_batch_size == 0 for stage in found.stages)


@pytest.mark.parametrize("key", ["b16", "l14"])
def test_the_recipes_of_the_paper_train_as_it_says(key):
    path = CONFIGS / f"escnet-{key}-coco-stuff.yaml"
    found = read_config(str(path), ("model={preset: escnet-b16}", "trainable=all"))
    (stage,) = found.stages
    assert (stage.steps, stage.batch_size, stage.learning_rate, stage.last_rate) == (80_000, 4, 2e-4, 0.0)
    assert (found.clip_sam_rate, found.weight_decay) == (0.01, 1e-4)
    assert stage.data[0].vocabulary == "coco-stuff-171"
