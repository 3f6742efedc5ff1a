"""Whatever a file holds, reading it gives rows, options or a picture, or one error of one clear line."""

import csv
import io
import json
import tarfile
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from jobs.annotate import annotate
from pipeline.annotation.job_files import read_job_file
from pipeline.picture.decode import decode
from pipeline.sources import SourceSummary, list_sources
from pipeline.sources.manifest import read_manifest, write_manifest
from pipeline.storage import StorageOptions
from pipeline.vocabularies import load_vocabulary
from schemas.errors import InputError, ManifestError, PictureError, SourceError, VocabularyError, one_line
from schemas.manifest import ManifestRow, is_web_address

OPTIONS = StorageOptions()
FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

SOME_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ANY_TEXT = st.text(st.characters(), max_size=30)
COUNTS = st.none() | st.integers(0, 2**31 - 1)
NAMES = SOME_TEXT.filter(bool)


def assert_one_line(error: Exception) -> None:
    message = str(error)
    assert message == one_line(message)
    assert "not found; check the name" not in message  # what storage says, of a file that is there
    assert "storage failed" not in message


@st.composite
def manifest_rows(draw):
    """Rows with odd names; absolute, since a relative name is another row in another folder."""
    ids = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    return [
        ManifestRow(
            image_id=image_id,
            uri="/" + draw(SOME_TEXT),
            width=draw(COUNTS),
            height=draw(COUNTS),
            size_bytes=draw(st.none() | st.integers(0, 2**63 - 1)),
            etag=draw(st.none() | NAMES),
            vocabulary=draw(st.none() | NAMES),
            split=draw(st.none() | NAMES),
            **draw(st.just({}) | st.fixed_dictionaries({"byte_offset": st.integers(0, 9), "byte_length": COUNTS})),
        )
        for image_id in ids
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_written_manifest_is_read_as_it_was(tmp_path, suffix):
    @FEW
    @given(manifest_rows())
    def check(rows):
        rows = [row for row in rows if (row.byte_offset is None) == (row.byte_length is None)]
        file = str(tmp_path / f"m.{suffix}")
        write_manifest(rows, file, OPTIONS, replace=True)
        assert [row for batch in read_manifest(file, OPTIONS) for row in batch] == rows

    check()


def read_source(file: Path, data: bytes) -> list[ManifestRow]:
    """The rows of a file that is a source, or no rows if it is refused in one line."""
    file.write_bytes(data)
    try:
        return list(list_sources([str(file)], OPTIONS, SourceSummary()))
    except (ManifestError, SourceError) as error:
        assert_one_line(error)
        return []


def assert_usable(rows: list[ManifestRow]) -> None:
    """What a plan needs of its rows: texts that can be written, counts that fit, names that differ."""
    assert len({row.image_id for row in rows}) == len(rows)
    for row in rows:
        assert (row.image_id + row.uri).encode()
        if is_web_address(row.uri):
            urlsplit(row.uri)
        assert all(0 <= (n or 0) < 2**63 for n in (row.width, row.height, row.size_bytes))
        assert all(0 <= (n or 0) < 2**63 for n in (row.byte_offset, row.byte_length))


@FEW
@given(st.sampled_from([".csv", ".jsonl", ".parquet", ".json", ".tar"]), st.binary(max_size=200) | ANY_TEXT)
@example(".jsonl", "[" * 100_000)
@example(".jsonl", '{"uri":' + "[" * 100_000)
@example(".json", "[" * 100_000)
@example(".json", '{"images": ' + "9" * 5000 + "}")
@example(".csv", "uri\n" + "x" * 3_000_000)
@example(".csv", "image_id,uri\na, https://host/a.jpg?Signature=1\n")
@example(".parquet", b"PAR1" + bytes(range(100)) + (50).to_bytes(4, "little") + b"PAR1")
def test_any_bytes_are_rows_or_one_line(tmp_path, suffix, content):
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    assert_usable(read_source(tmp_path / f"m{suffix}", data))


ODD_TEXTS = st.sampled_from(["a.jpg", "http://[", "foo://a", "\0", "../a", "9" * 50, " s3://a/b"])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats() | ANY_TEXT | ODD_TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(ANY_TEXT, inner, max_size=2),
    max_leaves=3,
)
KEYS = st.sampled_from(["uri", "image_id", "width", "size_bytes", "byte_offset", "byte_length", "mask_uri", "split"])


@FEW
@given(st.lists(st.dictionaries(KEYS | ANY_TEXT, JSON_VALUES, max_size=5), max_size=3))
@example([{"uri": "a", "byte_offset": -1, "byte_length": 5}])
@example([{"uri": "a", "image_id": "same"}, {"uri": "b", "image_id": "same"}])
def test_any_json_lines_are_rows_or_one_line(tmp_path, lines):
    assert_usable(read_source(tmp_path / "m.jsonl", "\n".join(map(json.dumps, lines)).encode()))


@FEW
@given(st.lists(st.lists(ANY_TEXT | st.sampled_from(["uri", "image_id", "width", "-5", "1e9", "nan"]), max_size=4)))
def test_any_table_of_texts_is_rows_or_one_line(tmp_path, table):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["uri", "image_id", "width", "byte_offset"][: len(table[0])] if table else [])
    writer.writerows(table)
    assert_usable(read_source(tmp_path / "m.csv", text.getvalue().encode("utf-8", "surrogatepass")))


ARROW_COLUMNS = [
    pa.array(["a.jpg"]), pa.array([None], pa.string()), pa.nulls(1), pa.array([b"\xff"]), pa.array([[["a"]]]),
    pa.array([{"bytes": b"x", "path": "p"}]), pa.array([{"bytes": "x"}]), pa.array([float("nan")]), pa.array([1e300]),
    pa.array([-1]), pa.array([2**64 - 1], pa.uint64()), pa.array([True]), pa.array(["a"]).dictionary_encode(),
    pa.array([2**30], pa.date32()), pa.array([2**62], pa.duration("s")), pa.array([2**62], pa.timestamp("ns")),
    pa.array([1], pa.timestamp("us", "Nowhere/No")), pa.array(["1.5"]).cast(pa.decimal128(5, 2)),
    pa.array([2**40], pa.time64("us")), pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
]  # fmt: skip
COLUMN_NAMES = ["uri", "image_id", "width", "byte_offset", "byte_length", "image", "bytes", "id", "mask_uri", "etag"]


@FEW
@given(st.dictionaries(st.sampled_from(COLUMN_NAMES), st.integers(0, len(ARROW_COLUMNS) - 1), min_size=1, max_size=5))
@example({"uri": 0, "width": 13})
@example({"uri": 0, "width": 14})
@example({"image": 3, "id": 14})
def test_parquet_columns_of_any_type_are_rows_or_one_line(tmp_path, columns):
    file = io.BytesIO()
    pq.write_table(pa.table({name: ARROW_COLUMNS[k] for name, k in columns.items()}), file)
    assert_usable(read_source(tmp_path / "m.parquet", file.getvalue()))


def parquet_bytes() -> bytes:
    file = io.BytesIO()
    rows = {"image_id": ["a", "b"], "uri": ["/a.jpg", "/b.jpg"], "width": [1, None]}
    pq.write_table(pa.table(rows), file, compression="none")
    return file.getvalue()


def tar_bytes() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("a.jpg", "ü" * 60 + ".jpg", "c.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 600
            tar.addfile(member, io.BytesIO(bytes(600)))
    return file.getvalue()


@st.composite
def damaged(draw, whole: bytes):
    """The file with bytes changed, cut out, put in twice, or cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at, n = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
        kind = draw(st.sampled_from(["change", "change", "change", "take out", "put in", "twice", "cut off"]))
        if kind == "change":
            data[at : at + n] = draw(st.binary(min_size=n, max_size=n))
        elif kind == "take out":
            del data[at : at + n]
        elif kind == "put in":
            data[at:at] = draw(st.binary(max_size=20))
        elif kind == "twice":
            data[at:at] = data[at : at + 10 * n]
        else:
            del data[at:]
    return bytes(data)


@FEW
@given(damaged(parquet_bytes()))
def test_a_damaged_parquet_manifest_is_rows_or_one_line(tmp_path, data):
    assert_usable(read_source(tmp_path / "m.parquet", data))


@FEW
@given(damaged(tar_bytes()))
def test_a_damaged_tar_is_rows_or_one_line(tmp_path, data):
    assert_usable(read_source(tmp_path / "m.tar", data))


COCO_KEYS = st.sampled_from(["file_name", "coco_url", "width", "height", "id"])


@FEW
@given(st.lists(st.dictionaries(COCO_KEYS, JSON_VALUES, max_size=4) | JSON_VALUES, max_size=3))
@example([{"file_name": "\ud800.jpg", "coco_url": "http://host/a.jpg"}])
@example([{"file_name": "a\0.jpg", "coco_url": "http://host/a.jpg"}])
@example([{"file_name": "a.jpg", "coco_url": "http://[host/a.jpg"}])
@example([{"file_name": "a.jpg", "coco_url": "http://host/a.jpg", "width": 10**40}])
def test_any_coco_images_are_rows_or_one_line(tmp_path, images):
    file = tmp_path / "m.json"
    file.write_text(json.dumps({"images": images}))
    try:
        assert_usable(list(list_sources([str(file)], OPTIONS, SourceSummary())))
    except InputError as error:
        assert_one_line(error)


@FEW
@given(st.sampled_from([".yaml", ".json", ".txt", ""]), st.binary(max_size=80) | ANY_TEXT)
@example(".txt", b"\xff\xfec\0a\0t\0")
def test_a_file_of_any_bytes_is_a_vocabulary_or_one_line(tmp_path, suffix, content):
    file = tmp_path / f"words{suffix}"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    try:
        found = load_vocabulary(str(file))
    except VocabularyError as error:
        assert_one_line(error)
        return
    assert found.entries


JOB_OPTIONS = [option.name for option in annotate.params if option.name]
JOB_FLAGS = ("allow_random_weights",)
JOB_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.dates() | st.lists(SOME_TEXT)


@FEW
@given(st.binary(max_size=60) | ANY_TEXT | st.dictionaries(st.sampled_from(JOB_OPTIONS) | ANY_TEXT, JOB_VALUES))
@example("model: !!python/object/apply:os.system [id]")
@example("limit: " + "9" * 5000)
@example("limit: 2024-13-45")
@example("[" * 100_000)
def test_a_job_file_gives_options_of_known_names_or_one_line(tmp_path, content):
    file = tmp_path / "job.yaml"
    text = json.dumps(content, default=str) if isinstance(content, dict) else content
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        options = read_job_file(str(file), JOB_OPTIONS, JOB_FLAGS)
    except InputError as error:
        assert_one_line(error)
        return
    assert set(options) <= set(JOB_OPTIONS)
    assert all(isinstance(value, str | bool | list) for value in options.values())


def picture_bytes(file_format: str, **options) -> bytes:
    file = io.BytesIO()
    picture = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    (picture.convert("P") if file_format == "GIF" else picture).save(file, file_format, **options)
    return file.getvalue()


PICTURES = [
    picture_bytes("JPEG"), picture_bytes("JPEG", progressive=True), picture_bytes("PNG"), picture_bytes("GIF"),
    picture_bytes("BMP"), picture_bytes("TIFF"), picture_bytes("TIFF", compression="tiff_lzw"), picture_bytes("WEBP"),
    picture_bytes("WEBP", lossless=True), picture_bytes("AVIF"),
]  # fmt: skip
DECODE_KINDS = {"empty", "not_an_image", "unsupported", "truncated", "corrupt", "too_large", "out_of_memory"}
MOST_PIXELS = 100_000  # small, so that a damaged header asks for little memory


def assert_known_failure(error: PictureError) -> None:
    assert error.stage == "decode"
    assert error.kind in DECODE_KINDS
    assert error.message == one_line(error.message)


@settings(FEW, max_examples=300)
@given(st.sampled_from(PICTURES).flatmap(damaged) | st.binary(max_size=100))
def test_a_damaged_picture_is_a_picture_or_a_known_failure(data):
    try:
        height, width, channels = decode(data, max_pixels=MOST_PIXELS).shape
    except PictureError as error:
        assert_known_failure(error)
        return
    assert channels == 3
    assert 0 < height * width <= MOST_PIXELS
