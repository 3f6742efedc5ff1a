"""Masks as people have them: which belongs to which picture, and what their values say."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.ground_truth import open_ground_truth, read_truth
from pipeline.evaluation.scores import NO_CLASS
from pipeline.picture.mask_file import read_mask
from pipeline.storage import StorageOptions
from schemas.errors import InputError
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import save_mask

STORAGE = StorageOptions()
SMALL = Vocabulary(name="small", classes=[{"id": k, "name": f"class {k}"} for k in (0, 1, 3, 15)])
LARGE = Vocabulary(name="large", classes=[{"id": k, "name": f"class {k}"} for k in (0, 3, 255, 1000)])
IDS = np.array([[0, 1, 3], [15, 15, 0]], np.uint8)


def png(mask: np.ndarray, n_bits: int) -> bytes:
    """A gray PNG of 1, 2, 4 or 8 bits a pixel, which Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    lines = b""
    for row in mask:
        bits = "".join(f"{value:0{n_bits}b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        lines += b"\0" + bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))
    header = struct.pack(">IIBBBBB", mask.shape[1], mask.shape[0], n_bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def truth(path, words=SMALL, **more) -> list:
    return read_truth(str(path), STORAGE, words, **more).tolist()


@pytest.mark.parametrize("n_bits", [4, 8])
def test_gray_values_are_ids_whatever_the_bits(n_bits):
    assert read_mask(png(IDS, n_bits)).tolist() == IDS.tolist()


@pytest.mark.parametrize("n_bits", [1, 2])
def test_gray_of_few_bits_is_not_stretched(n_bits):
    values = IDS % 2**n_bits
    assert read_mask(png(values, n_bits)).tolist() == values.tolist()


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_and_tiff_of_8_and_16_bits_say_the_same(tmp_path, suffix, dtype):
    path = save_mask(tmp_path / f"a.{suffix}", IDS.astype(dtype))
    assert truth(path) == IDS.tolist()


def test_a_tiff_of_32_bits_says_the_same(tmp_path):
    Image.fromarray(IDS.astype(np.int32)).save(tmp_path / "a.tif")
    assert truth(tmp_path / "a.tif") == IDS.tolist()
    Image.fromarray(IDS.astype(np.int32) - 1).save(tmp_path / "b.tif")
    with pytest.raises(InputError, match=r"b\.tif: found values from -1 to 14"):
        truth(tmp_path / "b.tif")


@pytest.mark.parametrize("bits", [4, 8])
def test_the_index_into_a_palette_is_the_id(tmp_path, bits):
    picture = Image.fromarray(IDS).convert("P")
    picture.putdata(IDS.ravel().tolist())
    picture.putpalette([200, 10, 10] * 16)
    picture.save(tmp_path / "a.png", bits=bits)
    assert truth(tmp_path / "a.png") == IDS.tolist()


def test_255_is_ignored_in_8_bits_and_65535_in_16(tmp_path):
    eight = save_mask(tmp_path / "8.png", np.array([[0, 3, 255]], np.uint8))
    sixteen = save_mask(tmp_path / "16.png", np.array([[1000, 255, 65535]], np.uint16))
    assert truth(eight) == [[0, 3, NO_CLASS]]
    assert truth(eight, LARGE) == [[0, 3, NO_CLASS]]
    assert truth(sixteen, LARGE) == [[1000, 255, NO_CLASS]]


def test_the_ignore_id_of_the_vocabulary_is_ignored_in_16_bits_too(tmp_path):
    path = save_mask(tmp_path / "a.png", np.array([[0, 255, 65535]], np.uint16))
    assert truth(path) == [[0, NO_CLASS, NO_CLASS]]


def test_values_left_out_are_ignored(tmp_path):
    path = save_mask(tmp_path / "a.png", np.array([[0, 20, 1]], np.uint8))
    assert truth(path, left_out_ids=(20,)) == [[0, NO_CLASS, 1]]


def colours(path):
    Image.new("RGB", (3, 2)).save(path)


def damaged(path):
    data = bytearray(png(IDS, 8))
    data[-20] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (colours, "found RGB pixels, expected a PNG or TIFF with one channel of class ids"),
        (damaged, "the file is damaged"),
        (lambda path: path.write_bytes(png(IDS, 8)[:60]), "the file is damaged"),
        (lambda path: path.write_bytes(b"\xff\xd8\xff"), "neither PNG nor TIFF"),
        (lambda path: path.write_bytes(b""), "the picture has no bytes"),
        (lambda _: None, "no such file; expected the mask that the ground truth names"),
        (lambda path: save_mask(path, np.zeros((4, 6), np.uint8)), "mask is 6 x 4, but the picture's labels are 3 x 2"),
        (lambda path: save_mask(path, np.array([[0, 2, 7]] * 2, np.uint8)), r"holds 2, 7 \(4 pixels\), no ids of voca"),
        (lambda path: save_mask(path, np.array([[300, 1, 1]] * 2, np.uint16)), r"holds 300 \(2 pixels\)"),
    ],
)
def test_a_mask_that_cannot_be_used_is_one_line_that_names_it(tmp_path, write, said):
    path = tmp_path / "a.png"
    write(path)
    with pytest.raises(InputError, match=said) as caught:
        truth(path, size_hw=(2, 3))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_folder_pairs_by_path_without_suffix(tmp_path):
    for name in ("a/b.png", "a/c.tif", "d e.png", "v1.2.png"):
        save_mask(tmp_path / name, IDS)
    (tmp_path / "readme.txt").write_text("no mask")
    found = open_ground_truth(str(tmp_path), STORAGE)
    uris = [found.mask_uri(image_id) for image_id in ("a/b.jpg", "a/c.JPEG", "b.jpg", "d e", "v1.2")]
    assert uris == [
        str(tmp_path / name) if name else None for name in ("a/b.png", "a/c.tif", None, "d e.png", "v1.2.png")
    ]
    assert found.n_unused == 0


def test_one_mask_for_two_pictures_is_refused(tmp_path):
    save_mask(tmp_path / "a.png", IDS)
    found = open_ground_truth(str(tmp_path), STORAGE)
    assert found.mask_uri("a.jpg") == found.mask_uri("a.jpg") is not None
    with pytest.raises(InputError, match=r"a\.png: may be the mask of 'a\.jpg' or of 'a\.webp'"):
        found.mask_uri("a.webp")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_manifest_pairs_by_image_id(tmp_path, suffix):
    from pipeline.sources.manifest import write_manifest
    from schemas.manifest import ManifestRow

    uri = str(tmp_path / f"m.{suffix}")
    rows = [ManifestRow("x", "p/x.jpg", mask_uri="/masks/1.png"), ManifestRow("y", "p/y.jpg")]
    write_manifest(rows, uri, STORAGE)
    found = open_ground_truth(uri, STORAGE)
    assert (found.mask_uri("x"), found.mask_uri("y"), found.mask_uri("z")) == ("/masks/1.png", None, None)
    assert "m." in found.missing("z")


def test_masks_of_a_prefix_are_read_from_object_storage(s3, tmp_path):
    uri = s3.put("masks/a/#1 ü.png", save_mask(tmp_path / "m.png", IDS).read_bytes())
    found = open_ground_truth(s3.uri("masks"), STORAGE)
    assert found.mask_uri("a/#1 ü.jpg") == uri
    assert read_truth(uri, STORAGE, SMALL).tolist() == IDS.tolist()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone", "gone: not found, expected a folder of masks, or a manifest"),
        ("file", "file: cannot be listed, expected a folder of masks, or a manifest"),
        ("empty", r"empty: no masks there, found nothing; expected \.png, \.tif, \.tiff"),
        ("photos", r"photos: no masks there, found 1 \.jpg"),
        ("twins", "a second mask beside"),
        ("gone.csv", r"gone\.csv: not found"),
        ("none.csv", r"none\.csv: none of its 1 rows has a mask_uri"),
        ("twice.csv", r"twice\.csv: image_id 'a' has two masks"),
        ("https://host/masks", "cannot be listed"),
    ],
)
def test_ground_truth_that_is_none_is_one_line(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("")
    save_mask(tmp_path / "twins" / "a.png", IDS)
    save_mask(tmp_path / "twins" / "a.tif", IDS)
    (tmp_path / "none.csv").write_text("image_id,uri\na,a.jpg\n")
    (tmp_path / "twice.csv").write_text("image_id,uri,mask_uri\na,a.jpg,1.png\na,a.jpg,2.png\n")
    with pytest.raises(InputError, match=said):
        open_ground_truth(name, STORAGE)
