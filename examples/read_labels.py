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
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from pipeline.drawing import Color, legend, paint, side_by_side
from pipeline.storage import StorageOptions
from pipeline.vocabularies import load_vocabulary


def colors_of(dataset: str) -> dict[str, dict[int, Color]]:
    """The colour of each class id, by the name of its vocabulary: those that the job was begun with."""
    files = sorted(Path(dataset, "vocabularies").glob("*.yaml"))
    vocabularies = [load_vocabulary(str(path), StorageOptions()) for path in files]
    return {words.name: {each.id: each.color for each in words.classes} for words in vocabularies}


def label_files(dataset: str) -> list[str]:
    """By their first picture: names of label files are in no order."""
    files = map(str, Path(dataset, "labels").glob("*.parquet"))
    return sorted(files, key=lambda file: pq.read_table(file, columns=["image_id"])["image_id"][0].as_py())


def draw(row: dict, colors: dict[int, Color], drawing: Path) -> None:
    """Save the picture, its labels, and the names of the classes in them."""
    mask = np.asarray(Image.open(io.BytesIO(row["mask"])))
    sides = [Image.fromarray(paint(mask, colors))]
    if Path(row["uri"]).is_file():  # local ones are absolute paths
        sides.insert(0, ImageOps.exif_transpose(Image.open(row["uri"])).convert("RGB"))
    sides.append(legend(row["classes"], colors))
    drawing.parent.mkdir(parents=True, exist_ok=True)
    side_by_side(sides).save(drawing)


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
    for batch in ds.dataset(label_files(dataset)).to_batches(batch_size=16):
        for row in batch.to_pylist():
            print(f"{row['image_id']:<23} {describe(row)}")
            if row["status"] == "labelled":
                draw(row, colors[row["vocabulary"]], Path(folder, f"{row['image_id']}.png"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
