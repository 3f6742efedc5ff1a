"""`escnet model`: which models there are, what is in one, and how to make one from other people's weights."""

from typing import Any

import click

from jobs.options import storage
from schemas.errors import printable

IMPORT_EPILOG = """\b
Examples:
  CAT-Seg as its authors trained it, ready to label photographs:
    escnet model import --cat-seg model_base.pth --output cat-seg-b16.safetensors
  A start for training ESC-Net, the paper's smaller network, with OpenAI's CLIP by open_clip's own download:
    escnet model import --preset escnet-b16 --sam sam_vit_b_01ec64.pth --output start-b16.safetensors
  The same from a CLIP file at hand:
    escnet model import --preset escnet-b16 --clip-pretrained open_clip_model.safetensors \\
        --sam sam_vit_b_01ec64.pth --output start-b16.safetensors
  Another CLIP, at 336 x 336 pixels:
    escnet model import --clip ViT-B-16 --clip-pretrained laion2b_s34b_b88k --image-size 336 \\
        --sam sam_vit_b_01ec64.pth --output start-laion.safetensors
  A start for training CAT-Seg, which has no SAM:
    escnet model import --preset cat-seg-b16 --output start-cat-seg-b16.safetensors

Files are read as weights only: no code in them is run. docs/models.md says where to get them.
"""


@click.group()
def model() -> None:
    """Look at models, and make one from other people's weights."""


@model.command("list", short_help="List the presets, and which have weights in the box.")
def list_models() -> None:
    """The presets: name, parameters, input size, and whether weights are in the box."""
    from escnet.config import PRESET_NAMES, preset_config
    from escnet.models import PRESET_PARAMETERS, bundled_weights

    click.echo(f"{'preset':<14}{'parameters':>12}{'input':>12}   weights")
    for name in PRESET_NAMES:
        side = preset_config(name).image_size
        card = f"in the box; docs/{name}.md says what they are for"
        made_by = "`escnet model import` reads its authors', see docs/models.md"
        made_by = made_by if name.startswith("cat-seg") else "`escnet train` makes them"
        weights = card if bundled_weights(name) else f"none: {made_by}"
        click.echo(f"{name:<14}{_millions(PRESET_PARAMETERS[name]):>12}{f'{side} x {side}':>12}   {weights}")


@model.command(short_help="Show what a preset or a checkpoint is.")
@click.argument("model")
@storage
def show(model: str, endpoint_url: str | None, profile: str | None) -> None:
    """What MODEL is: weights, fingerprint, size of its parts, configuration.

    MODEL is what stands after --model elsewhere: a preset, or a checkpoint, also s3://..., which is fetched.
    """
    from escnet.checkpoint_header import read_header
    from escnet.models import parameters_by_part
    from pipeline.model_cache import find_model, model_on_this_node
    from pipeline.storage import StorageOptions

    reached = StorageOptions(endpoint_url, profile)
    resolved = find_model(model, reached, allow_random_weights=True)
    with model_on_this_node(resolved, reached) as at_hand:
        info = None if at_hand.path is None else read_header(at_hand.path)
    if info is None:
        weights = "none in the box; random with --allow-random-weights"
    else:
        where = resolved.path if resolved.uri is None else resolved.name
        weights = f"{where} ({info.size_bytes / 1e6:.1f} MB)"
    untrained = ", ".join(info.untrained_parts) if info else "all"
    config = resolved.config
    click.echo(f"model         {resolved.name}")
    click.echo(f"weights       {weights}")
    click.echo(f"trained       {f'no, random numbers in: {untrained}' if resolved.is_random else 'yes'}")
    click.echo(f"fingerprint   {resolved.fingerprint}")
    side, (h, w) = config.image_size, config.grid_hw
    click.echo(f"input         {side} x {side} pixels, {h} x {w} patches of {config.patch_size}")
    parts = parameters_by_part(config)
    click.echo(f"parameters    {_millions(sum(parts.values()))}")
    for part, count in parts.items():
        click.echo(f"  {count:>11,}   {part}")
    if info is not None:
        _echo_fields("provenance", info.provenance)
    _echo_fields("configuration", config.model_dump(mode="json"))


@model.command("import", short_help="Make a checkpoint from other people's weights.", epilog=IMPORT_EPILOG)
@click.option("--cat-seg", metavar="FILE", help="A trained CAT-Seg: its authors' model_base.pth or model_large.pth.")
@click.option(
    "--arch",
    type=click.Choice(["ViT-B/16", "ViT-L/14@336px"]),
    help="CLIP of the --cat-seg FILE. [default: told from the file]",
)
@click.option(
    "--preset",
    metavar="NAME",
    help="A start for training: escnet-b16, escnet-l14, cat-seg-b16 or cat-seg-l14, the CLIP and input size of that "
    "preset.",
)
@click.option("--clip", metavar="ARCH", help="Instead of a preset: an open_clip architecture, such as ViT-B-16.")
@click.option(
    "--clip-pretrained",
    metavar="TAG_OR_FILE",
    help="open_clip's pretrained tag, downloaded or cached, or a local file. [default with --preset: openai]",
)
@click.option("--sam", metavar="FILE", help="SAM checkpoint, such as sam_vit_b_01ec64.pth. An ESC-Net needs one.")
@click.option(
    "--image-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Side of an ESC-Net's input in pixels. [default: the preset's, or 24 patches]",
)
@click.option("--output", required=True, metavar="FILE", help="Checkpoint to write (.safetensors).")
@click.option("--overwrite", is_flag=True, help="Replace --output if it exists.")
def import_model(output: str, overwrite: bool, **source: Any) -> None:
    """Make a checkpoint from other people's weights: a trained CAT-Seg, or CLIP and SAM to start training from.

    The parts of a start that CLIP and SAM do not cover are untrained: `escnet annotate` refuses it until it is trained,
    or is told --allow-random-weights.
    """
    _check_source(**source)
    from escnet.checkpoint import refuse_existing, save_checkpoint

    refuse_existing(output, overwrite=overwrite)
    network, provenance = _import(**source)
    info = save_checkpoint(network, output, provenance, overwrite=overwrite)
    click.echo(f"Wrote {output}: {_millions(info.n_parameters)} parameters, fingerprint {info.fingerprint}")
    if info.untrained_parts:
        click.echo(f"Untrained, to be trained before its labels mean anything: {', '.join(info.untrained_parts)}")


def _check_source(
    *,
    cat_seg: str | None,
    arch: str | None,
    preset: str | None,
    clip: str | None,
    clip_pretrained: str | None,
    sam: str | None,
    image_size: int | None,
) -> None:
    """Refuse options that do not go together."""
    if sum(each is not None for each in (cat_seg, preset, clip)) != 1:
        raise click.UsageError("give one of --cat-seg, --preset and --clip")
    if arch is not None and cat_seg is None:
        raise click.UsageError("--arch goes with --cat-seg")
    if clip is not None and clip_pretrained is None:
        raise click.UsageError("--clip needs --clip-pretrained TAG_OR_FILE")
    has_no_sam = cat_seg is not None or (preset or "").startswith("cat-seg")
    if not has_no_sam and sam is None:
        raise click.UsageError("an ESC-Net needs --sam FILE")
    without_effect = {"--sam": sam, "--image-size": image_size} if has_no_sam else {}
    if cat_seg is not None:
        without_effect["--clip-pretrained"] = clip_pretrained
    for name, value in without_effect.items():
        if value is not None:
            raise click.UsageError(f"{name} has no effect on a CAT-Seg{' that is trained' * (cat_seg is not None)}")


def _import(
    *,
    cat_seg: str | None,
    arch: str | None,
    preset: str | None,
    clip: str | None,
    clip_pretrained: str | None,
    sam: str | None,
    image_size: int | None,
) -> tuple[Any, dict[str, Any]]:
    """The network and its provenance."""
    from escnet.catseg.config import CatSegConfig
    from escnet.catseg.importing import import_cat_seg
    from escnet.config import preset_config
    from escnet.importing import clip_of_preset, import_cat_seg_start, import_escnet

    if cat_seg is not None:
        return import_cat_seg(cat_seg, arch)
    if preset is not None:
        config = preset_config(preset)
        if isinstance(config, CatSegConfig):
            return import_cat_seg_start(config, clip_pretrained or "openai")
        clip, preset_size = clip_of_preset(preset)
        image_size = image_size or preset_size
    return import_escnet(clip=clip, clip_pretrained=clip_pretrained or "openai", sam=sam, image_size=image_size)


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"


def _echo_fields(title: str, fields: dict[str, Any]) -> None:
    """As YAML, short lists on one line, so that a recipe of a hundred values can be read."""
    import textwrap

    import yaml

    click.echo(title)
    for name, value in fields.items():
        text = yaml.safe_dump(value, allow_unicode=True, sort_keys=False, default_flow_style=None, width=100)
        text = text.removesuffix("...\n").rstrip()
        text = f"{name}:\n{textwrap.indent(text, '  ')}" if "\n" in text else f"{name}: {text}"
        for line in text.splitlines():
            click.echo(f"  {printable(line)}")
