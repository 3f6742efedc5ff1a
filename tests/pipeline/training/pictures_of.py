"""Small labelled pictures for tests of training: two classes that a tiny network learns in a few steps."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.sources.manifest import write_manifest
from pipeline.storage import StorageOptions
from schemas.manifest import ManifestRow
from tests.pipeline.labelled_output import save_mask

STORAGE = StorageOptions()
CLASSES = ("dark", "bright")
IGNORED = 255


def write_pictures(folder: Path, n: int = 6, size_hw: tuple[int, int] = (40, 56)) -> Path:
    """Pictures dark on one side and bright on the other, their masks, a vocabulary; returns the manifest.

    The first row of pixels of each mask is ignored. The last picture is of split `val`, the others `train`.
    """
    rows = []
    for i in range(n):
        rng = np.random.default_rng(i)
        mask = np.zeros(size_hw, np.uint8)
        mask[:, rng.integers(15, 40) :] = 1
        picture = np.where(mask[..., None] == 1, 200, 40) + rng.integers(-20, 20, (*size_hw, 3))
        mask[0] = IGNORED
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.astype(np.uint8)).save(folder / "pictures" / f"{i}.png")
        save_mask(folder / "masks" / f"{i}.png", mask)
        split = "val" if i == n - 1 else "train"
        rows.append(ManifestRow(f"{i}.png", f"pictures/{i}.png", mask_uri=f"masks/{i}.png", split=split))
    (folder / "words.txt").write_text("\n".join(CLASSES))
    write_manifest(rows, str(folder / "manifest.csv"), STORAGE)
    return folder / "manifest.csv"
