"""`escnet evaluate`: labels against ground truth, thresholds for a precision, and calibration."""

from typing import TYPE_CHECKING, Any

import click

from jobs.options import storage
from pipeline.protocols import PROTOCOLS

if TYPE_CHECKING:
    from pipeline.evaluation import Evaluation
    from pipeline.evaluation.calibration import Calibration
    from pipeline.storage import StorageOptions

EPILOG = """\b
Examples:
  Masks in a folder, named as the pictures (photos/a/b.jpg has masks/a/b.png):
    escnet evaluate labels/ --ground-truth masks/
  A manifest with columns image_id and mask_uri, and the scores as JSON:
    escnet evaluate labels/ --ground-truth val.parquet --json scores.json
  COCO panoptic annotations, whose PNGs lie in val/ or panoptic/ beside them; outlines too:
    escnet evaluate labels/ --ground-truth val.json --boundaries
  A benchmark, as the papers measure it:
    escnet evaluate s3://bucket/labels/ --ground-truth s3://bucket/ade/val.parquet --protocol A-150
  One number for a script:
    escnet evaluate labels/ --ground-truth masks/ --json - | jq .miou
  Thresholds with which every class is right nineteen times in twenty, as a vocabulary for the next job:
    escnet evaluate labels/ --ground-truth masks/ --target-precision 0.95 --write-vocabulary sure.yaml
  A checkpoint whose confidence is how often it is right:
    escnet evaluate labels/ --ground-truth masks/ --calibrate calibrated.safetensors --model my.safetensors
"""


@click.command(short_help="Compare labels with ground truth: mIoU and calibration.", epilog=EPILOG)
@click.argument("output")
@click.option(
    "--ground-truth",
    required=True,
    metavar="URI",
    help="Manifest with a column `mask_uri`, folder or prefix of masks named as the pictures, or COCO panoptic .json.",
)
@click.option("--vocabulary", metavar="NAME", help="Which one, where OUTPUT has labels of several vocabularies.")
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    help="Measure as this benchmark does, and refuse labels of another vocabulary.",
)
@click.option("--boundaries", is_flag=True, help="Score the outlines too (boundary F-score); takes longer.")
@click.option("--allow-missing", is_flag=True, help="Leave pictures without a mask out, in place of an error.")
@click.option(
    "--target-precision",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="P",
    help="Fit min_confidence of every class so that this share of its pixels is right; shows what it costs.",
)
@click.option(
    "--write-vocabulary", metavar="FILE", help="Write the vocabulary with these thresholds, to be used as it is."
)
@click.option(
    "--calibrate",
    metavar="FILE",
    help="Fit the temperature of the model and write a checkpoint with it. Runs the model on the pictures again.",
)
@click.option(
    "--model", metavar="M", help="Model that made the labels, for --calibrate; may be left out if it is a preset."
)
@click.option(
    "--json", "json_file", metavar="FILE", help="Write all scores there too; `-` prints them, and nothing else."
)
@click.option("--overwrite", is_flag=True, help="Replace the files to be written if they are there.")
@storage
def evaluate(output: str, ground_truth: str, **asked: Any) -> None:
    """Compare the labels in OUTPUT with ground truth: mIoU, accuracy and calibration, held-out classes apart.

    OUTPUT is what `escnet annotate` wrote. Masks are PNG or TIFF with one channel, of the size of the picture; values
    are class ids of the vocabulary, and 255 (in 16 bits 65535) leaves a pixel out. Pixels that the labels ignore, and
    pictures that failed, count as wrong. Scores are fractions from 0 to 1.
    """
    from pipeline.evaluation import evaluate as evaluate_labels
    from pipeline.storage import StorageOptions

    options = StorageOptions(asked["endpoint_url"], asked["profile"])
    _check_usage(asked, options)
    what = {name: asked[name] for name in ("vocabulary", "protocol", "allow_missing")} | {"storage": options}
    calibration = None
    if asked["calibrate"] is not None:
        from pipeline.evaluation.calibration import calibrate

        calibration = calibrate(
            output, ground_truth, asked["calibrate"], model=asked["model"], overwrite=asked["overwrite"], **what
        )
    found = evaluate_labels(
        output, ground_truth, target_precision=asked["target_precision"], boundaries=asked["boundaries"], **what
    )
    _report(found, calibration, asked["json_file"], options, overwrite=asked["overwrite"])
    if asked["write_vocabulary"] is not None:
        _write_vocabulary(found, asked["write_vocabulary"], options, overwrite=asked["overwrite"])


def _check_usage(asked: dict[str, Any], options: "StorageOptions") -> None:
    """Options that do not go together, and files that are there already: better before long work than after it."""
    from pipeline.json_files import refuse_taken

    if asked["write_vocabulary"] is not None and asked["target_precision"] is None:
        raise click.UsageError("--write-vocabulary goes with --target-precision P, which fits the thresholds")
    if asked["model"] is not None and asked["calibrate"] is None:
        raise click.UsageError("--model goes with --calibrate FILE; leave it out")
    files = [asked[name] for name in ("json_file", "write_vocabulary") if asked[name] not in (None, "-")]
    if asked["overwrite"] and not files and asked["calibrate"] is None:
        raise click.UsageError("--overwrite goes with --json FILE or another file to write; leave it out")
    if not asked["overwrite"]:
        for file in files:
            refuse_taken(file, options)


def _report(
    found: "Evaluation",
    calibration: "Calibration | None",
    json_file: str | None,
    options: "StorageOptions",
    *,
    overwrite: bool,
) -> None:
    from pipeline.evaluation.summary import calibration_lines, evaluation_lines
    from pipeline.json_files import json_text, write_json

    data = found.as_json() | ({} if calibration is None else {"calibrated": calibration.as_json()})
    if json_file == "-":
        click.echo(json_text(data), nl=False)
        return
    for line in evaluation_lines(found) + ([] if calibration is None else ["", *calibration_lines(calibration)]):
        click.echo(line)
    if json_file is not None:
        write_json(data, json_file, options, replace=overwrite)


def _write_vocabulary(found: "Evaluation", file: str, options: "StorageOptions", *, overwrite: bool) -> None:
    from pipeline.vocabularies import write_vocabulary

    assert found.thresholds is not None
    write_vocabulary(found.thresholds.applied_to(found.vocabulary), file, options, replace=overwrite)
    click.echo(f"Wrote {file}: use it with `escnet annotate`, or with `escnet relabel` on the same labels", err=True)
