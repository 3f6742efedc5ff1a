"""Read a dataset of labels: print one line a picture, and draw each mask over its photograph.

    python examples/read_labels.py DATASET FOLDER

DATASET is the --output of `escnet annotate`, on this machine; FOLDER is where the drawings go.
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
    """Save the photograph, mixed half and half with the colours of its mask, and the names of the largest classes."""
    mask = np.asarray(Image.open(io.BytesIO(row["mask"])))
    photo = ImageOps.exif_transpose(Image.open(row["uri"])).convert("RGB")
    drawing.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.blend(photo, Image.fromarray(paint(mask)), 0.5)
    pen = ImageDraw.Draw(picture)
    for line, each in enumerate(largest(row)):
        at = (6, 6 + 16 * line)
        pen.text(at, each["name"], fill=class_color(each["class_id"]), stroke_width=2, stroke_fill="white")
    picture.save(drawing)


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
