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

from pipeline.storage import StorageOptions
from pipeline.vocabularies import load_vocabulary

LEGEND_LINE = 16  # pixels
SMALLEST_NAMED = 0.002  # of the picture

Color = tuple[int, int, int]


def colors_of(dataset: str) -> dict[str, dict[int, Color]]:
    """The colour of each class id, by the name of its vocabulary: those that the job was begun with."""
    files = sorted(Path(dataset, "vocabularies").glob("*.yaml"))
    vocabularies = [load_vocabulary(str(path), StorageOptions()) for path in files]
    return {words.name: {each.id: each.color for each in words.classes} for words in vocabularies}


def paint(mask: np.ndarray, colors: dict[int, Color]) -> np.ndarray:
    """(H, W) class ids -> (H, W, 3) colours; the ignore id becomes black."""
    painted = np.zeros((*mask.shape, 3), np.uint8)
    for class_id in set(np.unique(mask).tolist()) & colors.keys():
        painted[mask == class_id] = colors[class_id]
    return painted


def draw(row: dict, colors: dict[int, Color], drawing: Path) -> None:
    """Save the picture, its labels, and the names of the classes in them."""
    mask = np.asarray(Image.open(io.BytesIO(row["mask"])))
    sides = [Image.fromarray(paint(mask, colors))]
    if Path(row["uri"]).is_file():  # local ones are absolute paths
        sides.insert(0, ImageOps.exif_transpose(Image.open(row["uri"])).convert("RGB"))
    sides.append(legend([each for each in largest(row) if each["fraction"] >= SMALLEST_NAMED], colors))
    whole = Image.new("RGB", (sum(side.width for side in sides), max(side.height for side in sides)), "white")
    left = 0
    for side in sides:
        whole.paste(side, (left, 0))
        left += side.width
    drawing.parent.mkdir(parents=True, exist_ok=True)
    whole.save(drawing)


def legend(classes: list[dict], colors: dict[int, Color]) -> Image.Image:
    """A white strip with the colour, name and share of each class."""
    lines = [f"{each['name']} {each['fraction']:.1%}" for each in classes]
    width = 32 + int(max((ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(line) for line in lines), default=0))
    strip = Image.new("RGB", (width, LEGEND_LINE * len(lines) + 8), "white")
    pen = ImageDraw.Draw(strip)
    for i, (each, line) in enumerate(zip(classes, lines, strict=True)):
        top = 6 + LEGEND_LINE * i
        pen.rectangle((8, top, 18, top + 10), fill=colors[each["class_id"]], outline="black")
        pen.text((24, top), line, fill="black")
    return strip


def largest(row: dict) -> list[dict]:
    """The classes of a picture, those with the most pixels first."""
    return sorted(row["classes"], key=lambda each: -each["pixels"])


def describe(row: dict) -> str:
    """The status of a picture, its largest classes, and how sure the model was."""
    if row["status"] == "failed":
        return f"failed     {row['error_stage']}/{row['error_kind']}: {row['error_message']}"
    classes = ", ".join(f"{each['name']} {each['fraction']:.0%}" for each in largest(row)[:3])
    confidence = row["confidence_mean"]
    return f"labelled   {'-' if confidence is None else f'{confidence:.2f}':<11}{classes}"


def main(dataset: str, folder: str) -> None:
    print(f"{'image_id':<24}{'status':<11}{'confidence':<11}largest classes")
    colors = colors_of(dataset)
    for batch in ds.dataset(f"{dataset}/labels", format="parquet").to_batches(batch_size=16):
        for row in batch.to_pylist():
            print(f"{row['image_id']:<23} {describe(row)}")
            if row["status"] == "labelled":
                draw(row, colors[row["vocabulary"]], Path(folder, f"{row['image_id']}.png"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
