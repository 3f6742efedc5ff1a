"""What `escnet bench` found, as tables for a terminal that are Markdown as well."""

from collections.abc import Sequence
from typing import Any

_MODEL_HEADS = (
    "classes", "views", "dtype", "preselect", "batch", "picture", "s a picture", "fastest - slowest", "pictures a s",
    "peak MiB", "above model", "of peak",
)  # fmt: skip


def bench_lines(found: dict[str, Any]) -> list[str]:
    """The report of `pipeline.bench.bench` as lines."""
    device = found["device"]
    threads = f", {device['threads']} threads" if device["threads"] > 1 else ", 1 thread"
    where = f"{device['name']}{threads}" if device["type"] == "cpu" else device["name"]
    lines = [f"{found['model_name']} on {where}", "", "The model alone:", ""]
    lines += _table(_MODEL_HEADS, [_model_cells(row) for row in found["model"]])
    if found["job"] is not None:
        rows = [(row["stage"], f"{row['seconds_per_image']:.4f}") for row in found["pipeline"]]
        lines += ["", "A job of one actor, by stage (all but segment go on beside the model):", ""]
        lines += [*_table(("stage", "s a picture"), rows), "", _job_line(found["job"])]
    return lines


def _model_cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(row["classes"]),
        row["views"],
        row["dtype"],
        str(row["preselect"]),
        str(row["batch_size"]),
        f"{row['width']} x {row['height']}",
        f"{row['seconds_per_image']:.3f}",
        f"{row['seconds_per_image_min']:.3f} - {row['seconds_per_image_max']:.3f}",
        f"{row['pictures_per_s']:.2f}",
        f"{row['peak_memory_mib']:,}",
        f"{row['above_model_mib']:,}",
        "unknown" if row["share_of_peak"] is None else f"{row['share_of_peak']:.1%}",
    )


def _job_line(job: dict[str, Any]) -> str:
    if job["reached"] is None:
        return "No picture of the job was labelled."
    return (
        f"The job labelled {job['pictures_per_s']:.2f} pictures a second, {job['reached']:.0%} of the "
        f"{job['model_alone_pictures_per_s']:.2f} that its model does in the time that it really has the core, or the "
        f"GPU; {job['start_s']:.1f} s to start."
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return ["| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in lines]
