"""What `make demo` shows."""

import io
import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

WORDS = 'name: words\nclasses: [{id: 3, name: brick, color: "#0a141e"}]\n'
MAIN = runpy.run_path(str(Path(__file__).parents[1] / "examples/read_labels.py"))["main"]


def labelled(image_id: str, uri: Path, mask: np.ndarray) -> dict:
    png = io.BytesIO()
    Image.fromarray(mask).save(png, "png")
    classes = [{"class_id": 3, "name": "brick", "pixels": mask.size, "fraction": 1.0}]
    row = {
        "image_id": image_id,
        "uri": str(uri),
        "status": "labelled",
        "vocabulary": "words",
        "mask": png.getvalue(),
        "classes": classes,
    }
    return row | {"confidence_mean": 0.5, "error_stage": None, "error_kind": None, "error_message": None}


def test_pictures_are_drawn_beside_their_labels_and_labels_alone_where_the_picture_is_gone(tmp_path, capsys):
    Image.new("RGB", (40, 30), (200, 0, 0)).save(tmp_path / "here.png")
    mask = np.full((30, 40), 3, np.uint16)
    failed = dict.fromkeys(("mask", "classes", "confidence_mean"))
    failed |= {"image_id": "c.png", "uri": "c.png", "status": "failed", "error_stage": "decode"}
    failed |= {"error_kind": "corrupt", "error_message": "no end"}
    rows = [labelled("a.png", tmp_path / "here.png", mask), labelled("b.png", tmp_path / "gone.png", mask), failed]
    (tmp_path / "out/labels").mkdir(parents=True)
    (tmp_path / "out/vocabularies").mkdir()
    (tmp_path / "out/vocabularies/words.yaml").write_text(WORDS)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "out/labels/0.parquet")

    MAIN(str(tmp_path / "out"), str(tmp_path / "drawings"))

    assert sorted(path.name for path in (tmp_path / "drawings").iterdir()) == ["a.png.png", "b.png.png"]
    beside, alone = (np.asarray(Image.open(tmp_path / "drawings" / name)) for name in ("a.png.png", "b.png.png"))
    legend = beside.shape[1] - 80
    assert alone.shape == (30, 40 + legend, 3)
    assert beside[29, 0].tolist() == [200, 0, 0]
    assert beside[29, 40].tolist() == alone[29, 0].tolist() == [10, 20, 30]
    assert alone[10, 40 + 12].tolist() == [10, 20, 30]  # the legend's swatch
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["a.png", "labelled", "0.50", "brick", "100%"],
        ["b.png", "labelled", "0.50", "brick", "100%"],
        ["c.png", "failed", "decode/corrupt:", "no", "end"],
    ]
