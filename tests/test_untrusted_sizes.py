"""Files from strangers that ask for all memory, or for ever: refused in one line, at once."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image

from escnet.checkpoint import load_checkpoint, read_header
from escnet.config import preset_config
from escnet.models import build_random, resolve_model
from escnet.weight_files import read_weights
from pipeline.picture.decode import decode
from pipeline.sources import SourceSummary, list_source
from pipeline.storage import StorageOptions
from schemas.errors import ModelError, SourceError


class Large:
    """A pickle of it asks for 100 TB."""

    def __reduce__(self):
        return bytearray, (10**14,)


def test_a_pickle_that_asks_for_all_memory_is_one_line(tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(pickle.dumps({"a": Large()}, 2))
    with pytest.raises(ModelError, match="damaged"):
        read_weights(file)


@pytest.fixture(scope="module")
def nano() -> tuple[dict, dict]:
    """The configuration of a small network as JSON, and its tensors as a safetensors header has them."""
    config = preset_config("escnet-nano")
    tensors, end = {}, 0
    for name, tensor in build_random(config).state_dict().items():
        tensors[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [end, end + 4 * tensor.numel()]}
        end += 4 * tensor.numel()
    return config.model_dump(mode="json"), tensors


def merged(old: object, new: object) -> object:
    """The settings of `old` with those of `new` in their places."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


def checkpoint_bytes(config: str, tensors: dict, provenance: str = "{}") -> bytes:
    said = {"format": "escnet-checkpoint/1", "config": config, "fingerprint": "0" * 32, "provenance": provenance}
    header = json.dumps({"__metadata__": said, **tensors}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(max(t["data_offsets"][1] for t in tensors.values()))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"n_blocks": 10**6}, "1000000 layers, but the file has only"),
        ({"image_size": 2**20}, "image_size 1048576, expected at most 8192"),
        ({"hidden_dim": 2**24}, "the weights do not fit its configuration"),
        ({"sam": {"depth": 10**6}}, "1000000 layers"),
        ({"clip": {"text_cfg": {"layers": 10**6}}}, "1000000 layers"),
        ({"clip": {"text_cfg": {"width": 2**24}}}, "the weights do not fit its configuration"),
        ({"clip": {"text_cfg": {"width": "\x1b[31m"}}}, "width is \\x1b[31m, expected a whole number from 1"),
        ({"clip": {"text_cfg": {"vocab_size": "many"}}}, "its configuration is not one this version can use"),
        ({"clip": {"text_cfg": "none"}}, "its configuration is not one this version can use"),
    ],
    ids=str,
)
def test_a_checkpoint_that_asks_for_a_giant_network_is_one_line(tmp_path, nano, changed, said):
    config, tensors = nano
    file = tmp_path / "model.safetensors"
    file.write_bytes(checkpoint_bytes(json.dumps(merged(config, changed)), tensors))
    with pytest.raises(ModelError) as caught:
        load_checkpoint(file)
    assert said in str(caught.value)


@pytest.mark.parametrize("part", ["5", "null", '"abc"', '[{"a": 1}]'])
def test_a_checkpoint_of_odd_provenance_is_one_line(tmp_path, nano, part):
    config, tensors = nano
    file = tmp_path / "model.safetensors"
    file.write_bytes(checkpoint_bytes(json.dumps(config), tensors, f'{{"untrained_parts": {part}}}'))
    with pytest.raises(ModelError, match="is no list of names"):
        resolve_model(str(file))


@pytest.mark.parametrize("which", ["config", "provenance"])
def test_a_checkpoint_of_endless_json_is_one_line(tmp_path, nano, which):
    config, tensors = nano
    texts = {"config": json.dumps(config), "provenance": "{}", which: "[" * 100_000}
    file = tmp_path / "model.safetensors"
    file.write_bytes(checkpoint_bytes(texts["config"], tensors, texts["provenance"]))
    with pytest.raises(ModelError, match="no JSON"):
        read_header(file)


def tar_header(kind: bytes, size: int, name: bytes = b"a.jpg") -> bytes:
    """A header of one member, its size in base 256, in which a negative one can be written too."""
    number = size.to_bytes(12, "big", signed=True) if size < 0 else b"\x80" + size.to_bytes(11, "big")
    block = bytearray(512)
    for at, field in (
        (0, name),
        (100, b"0000644\0"),
        (124, number),
        (148, b" " * 8),
        (156, kind),
        (257, b"ustar\x0000"),
    ):
        block[at : at + len(field)] = field
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(key: bytes, value: bytes) -> bytes:
    record = b" %s=%s\n" % (key, value)
    record = b"%d" % (len(record) + 2) + record
    return tar_header(b"x", len(record)) + record + bytes(-len(record) % 512)


PICTURE = tar_header(b"0", 8) + bytes(512)
END = bytes(1024)


@pytest.mark.parametrize(
    "data",
    [
        tar_header(b"0", -512) + END,
        PICTURE + tar_header(b"0", -1536, b"b.jpg") + END,
        pax(b"size", b"-1000") + PICTURE + END,
        tar_header(b"0", 2**62) + END,
        tar_header(b"0", 2**80) + END,
        tar_header(b"L", 2**40) + END,
        tar_header(b"x", 2**80) + END,
        tar_header(b"L", -512) + END,
        pax(b"GNU.sparse.map", b"1,x") + PICTURE + END,
        (tar_header(b"L", 5) + b"aaaa\0" + bytes(507)) * 5000 + PICTURE + END,
    ],
    ids=["member of -512 bytes", "back to the start", "back by pax", "beyond any file", "beyond any number",
         "name of a terabyte", "header of 2**80 bytes", "name of -512 bytes", "no number", "headers of headers"],
)  # fmt: skip
def test_a_tar_that_lies_is_one_line(tmp_path, data):
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(SourceError, match="damaged or no tar"):
        for _ in zip(range(100), list_source(f"{tmp_path}/a.tar", StorageOptions(), SourceSummary()), strict=False):
            pass


def test_folders_however_deep_are_listed(tmp_path):
    depth = 1200
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("x", dir_fd=folder)
        outer, folder = folder, os.open("x", os.O_RDONLY, dir_fd=folder)
        os.close(outer)
    os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    try:
        rows = list(list_source(str(tmp_path), StorageOptions(), SourceSummary()))
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "x"], check=True)  # deeper than Python removes
    assert [row.image_id for row in rows] == ["x/" * depth + "a.jpg"]


def tiff(tags: dict[int, int], body: bytes) -> bytes:
    """One strip or tile that begins at byte 8, Deflate, 8 bits, gray."""
    tags = {258: 8, 259: 8, 262: 1, 277: 1, **tags}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II" + struct.pack("<HI", 42, 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    whole = [(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in whole
    )


def jpeg_of_scans(n: int) -> bytes:
    """A progressive JPEG that goes over its picture `n` times more than it has to."""
    file = io.BytesIO()
    Image.new("L", (64, 64)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * n + data[-2:]


MEGABYTE = zlib.compress(bytes(1_000_000))
PIXELS = zlib.compress(bytes(20))
BOMBS = {
    "tile.tif": (tiff({256: 16, 257: 16, 322: 2**15, 323: 2**15, 324: 8, 325: len(PIXELS)}, PIXELS), "too_large"),
    "strip.tif": (tiff({256: 16, 257: 16, 273: 8, 278: 2**31 - 1, 279: len(MEGABYTE)}, MEGABYTE), None),
    "text.png": (png(*[(b"zTXt", b"k%d\0\0" % k + MEGABYTE) for k in range(100)], (b"IDAT", PIXELS)), "too_large"),
    "itxt.png": (
        png(*[(b"iTXt", b"k%d\0\1\0\0\0" % k + MEGABYTE) for k in range(100)], (b"IDAT", PIXELS)),
        "too_large",
    ),
    "profile.png": (png((b"iCCP", b"k\0\0" + zlib.compress(bytes(80_000_000))), (b"IDAT", PIXELS)), "too_large"),
    "data.png": (png((b"IDAT", zlib.compress(bytes(80_000_000)))), None),
    "scans.jpg": (jpeg_of_scans(600), "too_large"),
}
MEASURE = """
import json, resource, sys
from pathlib import Path
from pipeline.picture.decode import decode
from schemas.errors import PictureError
before, kinds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, {}
for path in map(Path, sys.argv[1:]):
    try:
        kinds[path.name] = list(decode(path.read_bytes()).shape)
    except PictureError as error:
        kinds[path.name] = error.kind
print(json.dumps([kinds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]))
"""


def test_small_files_that_unpack_to_much_need_little_memory(tmp_path):
    for name, (data, _) in BOMBS.items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *(tmp_path / name for name in BOMBS)], capture_output=True, check=True
    )
    kinds, grown_mb = json.loads(done.stdout)
    assert {name: kinds[name] for name, (_, kind) in BOMBS.items() if kind} == {
        name: kind for name, (_, kind) in BOMBS.items() if kind
    }
    assert grown_mb < 100  # Pillow's own limit for the texts of a PNG is 64 MB


def test_a_jpeg_of_ordinary_scans_is_a_picture():
    assert decode(jpeg_of_scans(100)).shape == (64, 64, 3)
