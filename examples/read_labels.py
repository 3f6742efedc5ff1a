"""Read a dataset of labels: print one line a picture, and draw each picture beside its labels.

    python examples/read_labels.py DATASET FOLDER

DATASET is the --output of `escnet annotate`, on this machine; FOLDER is where the drawings go. Where a picture is not a
file on this machine (it lay in a bucket, a tar or a Parquet file, or is gone), its labels are drawn alone.
"""

import io
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from PIL import Image, ImageDraw, ImageOps

from schemas.vocabulary import class_color


def paint(mask: np.ndarray) -> np.ndarray:
    """(H, W) class ids -> (H, W, 3) colours; the ignore id becomes black."""
    ignore_id = np.iinfo(mask.dtype).max  # 255 in 8 bit, 65535 in 16 bit
    colors = np.zeros((*mask.shape, 3), np.uint8)
    for class_id in np.unique(mask[mask != ignore_id]):
        colors[mask == class_id] = class_color(int(class_id))
    return colors


def draw(row: dict, drawing: Path) -> None:
    """Save the picture beside its labels, whose colours are mixed with it and whose largest classes are named."""
    mask = np.asarray(Image.open(io.BytesIO(row["mask"])))
    labels = Image.fromarray(paint(mask))
    sides = [labels]
    if Path(row["uri"]).is_file():  # local ones are absolute paths
        picture = ImageOps.exif_transpose(Image.open(row["uri"])).convert("RGB")
        sides = [picture, Image.blend(picture, labels, 0.6)]
    width, height = labels.size
    both = Image.new("RGB", (width * len(sides), height))
    for i, side in enumerate(sides):
        both.paste(side, (i * width, 0))
    pen = ImageDraw.Draw(both)
    for line, each in enumerate(largest(row)):
        at = ((len(sides) - 1) * width + 6, 6 + 16 * line)
        pen.text(at, each["name"], fill=class_color(each["class_id"]), stroke_width=2, stroke_fill="white")
    drawing.parent.mkdir(parents=True, exist_ok=True)
    both.save(drawing)


def largest(row: dict) -> list[dict]:
    """The three classes with the most pixels."""
    return sorted(row["classes"], key=lambda each: -each["pixels"])[:3]


def describe(row: dict) -> str:
    """The status of a picture, its largest classes, and how sure the model was."""
    if row["status"] == "failed":
        return f"failed     {row['error_stage']}/{row['error_kind']}: {row['error_message']}"
    classes = ", ".join(f"{each['name']} {each['fraction']:.0%}" for each in largest(row))
    confidence = row["confidence_mean"]
    return f"labelled   {'-' if confidence is None else f'{confidence:.2f}':<11}{classes}"


def main(dataset: str, folder: str) -> None:
    print(f"{'image_id':<24}{'status':<11}{'confidence':<11}largest classes")
    for batch in ds.dataset(f"{dataset}/labels", format="parquet").to_batches(batch_size=16):
        for row in batch.to_pylist():
            print(f"{row['image_id']:<23} {describe(row)}")
            if row["status"] == "labelled":
                draw(row, Path(folder, f"{row['image_id']}.png"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
