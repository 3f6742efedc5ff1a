"""Every kind of picture people have, and every kind of broken one."""

import csv
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.picture.decode import DEFAULT_MAX_PIXELS, decode
from schemas.errors import PictureError

# As numpy does it: what a viewer must do with the stored pixels of each EXIF orientation.
TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
LOSSLESS = [
    ("PNG", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("WEBP", {"lossless": True}),
]


def photo(height: int = 40, width: int = 60) -> np.ndarray:
    """Smooth in places, noisy in others, different in all corners and channels."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(7).integers(0, 40, (height, width))
    return np.stack([x * 200 // width + noise, y * 250 // height, (x + y) * 2 % 256], axis=-1).astype(np.uint8)


def saved(pixels: np.ndarray | Image.Image, file_format: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunk(png: bytes, name: bytes, body: bytes) -> bytes:
    """`png` with one more chunk after its header."""
    return png[:33] + png_chunk(name, body) + png[33:]


def gray_tiff(raw: bytes, width: int, height: int, n_bits: int, photometric: int, order: str = "<") -> bytes:
    """An uncompressed one-strip TIFF."""
    tags = [
        (256, width), (257, height), (258, n_bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height),
        (279, len(raw)),
    ]  # fmt: skip
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(raw))
    directory = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags)
    return head + raw + struct.pack(order + "H", len(tags)) + directory + bytes(4)


def failure(data: bytes, **options: int) -> PictureError:
    with pytest.raises(PictureError) as caught:
        decode(data, **options)
    assert caught.value.stage == "decode"
    return caught.value


def test_hard_files_come_out_as_their_manifest_says(shared_data: Path):
    wrong = []
    with open(shared_data / "hard" / "MANIFEST.csv", newline="") as file:
        expected = list(csv.DictReader(file))
    assert len(expected) == 40
    for row in expected:
        data = (shared_data / "hard" / row["file"]).read_bytes()
        try:
            height, width, _ = decode(data).shape
        except PictureError as error:
            if row["should_decode"] == "yes" or error.kind not in row["error_kind"].split("|"):
                wrong.append((row["file"], error.kind, error.message))
            continue
        stored = tuple(map(int, row["size"].split("x")))
        seen = stored[::-1] if row["exif_orientation"] in "5678" and row["exif_orientation"] else stored
        if row["should_decode"] == "no" or (width, height) != seen:
            wrong.append((row["file"], width, height))
    assert wrong == []


@pytest.mark.parametrize("orientation", [3, 5, 6])
def test_oriented_photograph_is_the_stored_one_turned_by_hand(shared_data: Path, orientation: int):
    path = shared_data / "hard" / f"exif_landscape_orient{orientation}.jpg"
    with Image.open(path) as image:
        stored = np.asarray(image)
    np.testing.assert_array_equal(decode(path.read_bytes()), TURNED[orientation](stored))


@pytest.mark.parametrize(("file_format", "options"), LOSSLESS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_once(file_format: str, options: dict, orientation: int):
    exif = Image.Exif()
    exif[274] = orientation
    data = saved(photo(), file_format, exif=exif, **options)
    np.testing.assert_array_equal(decode(data), TURNED[orientation](photo()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_orientation_is_applied(orientation: int):
    exif = Image.Exif()
    exif[274] = orientation
    found = decode(saved(photo(), "AVIF", quality=100, subsampling="4:4:4", exif=exif))
    expected = TURNED[orientation](photo())
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("exif", [b"Exif\0\0no tiff at all", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0", b"\0" * 9])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_turns_nothing_and_fails_nothing(file_format: str, exif: bytes):
    options = {"lossless": True} if file_format == "WEBP" else {}
    found = decode(saved(photo(), file_format, exif=exif, **options))
    np.testing.assert_array_equal(found, decode(saved(photo(), file_format, **options)))


def test_sixteen_bit_photograph_keeps_its_brightness(shared_data: Path):
    data = (shared_data / "hard" / "derived_truck_gray16.png").read_bytes()
    assert 132 < decode(data).mean() < 134  # cut off at 255 it would be 255


def test_sixteen_bit_gray_and_colour_agree():
    gray = photo()[..., 0].astype(np.uint16) * 200 + 77
    expected = np.repeat((gray >> 8).astype(np.uint8)[..., None], 3, axis=2)
    colour = b"".join(b"\0" + np.repeat(row.astype(">u2"), 3).tobytes() for row in gray)
    colour_png = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 40, 16, 2, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(colour))
        + png_chunk(b"IEND", b"")
    )
    little, big = (gray_tiff(gray.astype(order + "u2").tobytes(), 60, 40, 16, 1, order) for order in "<>")
    for data in (saved(gray, "PNG"), saved(gray, "TIFF", compression="tiff_lzw"), little, big, colour_png):
        np.testing.assert_array_equal(decode(data), expected)


def test_twelve_bits_are_scaled_and_white_can_be_zero():
    twelve = bytes([0xFF, 0xF0, 0x00, 0x80, 0x0F, 0xF0])  # 4095, 0, 2048, 4080
    np.testing.assert_array_equal(decode(gray_tiff(twelve, 4, 1, 12, 1))[0, :, 0], [255, 0, 128, 255])
    sixteen = np.array([[0, 65535, 256 * 9]], "<u2").tobytes()
    np.testing.assert_array_equal(decode(gray_tiff(sixteen, 3, 1, 16, 0))[0, :, 0], [255, 0, 246])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 0.2, 1], np.float32), [0, 51, 255]),
        (np.array([0, 51.4, 200], np.float32), [0, 51, 200]),
        (np.array([0, 25700, 65535], np.float32), [0, 100, 255]),
        (np.array([-10, 0, 41], np.float32), [0, 50, 255]),
        (np.array([0.5, np.nan, 1], np.float32), [128, 0, 255]),
        (np.array([-np.inf, 0.2, np.inf], np.float32), [0, 51, 255]),
        (np.array([np.nan, np.nan, np.nan], np.float32), [0, 0, 0]),
        (np.array([9e9, 9e9, 9e9], np.float32), [0, 0, 0]),
        (np.array([0, 1, 1], np.int32), [0, 1, 1]),
        (np.array([0, 25700, 65535], np.int32), [0, 100, 255]),
        (np.array([-100_000, 0, 300_000], np.int32), [0, 64, 255]),
    ],
)
def test_samples_without_a_stated_range_are_scaled_by_the_range_they_fill(values: np.ndarray, expected: list[int]):
    np.testing.assert_array_equal(decode(saved(values[None], "TIFF"))[0, :, 1], expected)


def test_transparent_pixels_are_white():
    alpha = np.linspace(0, 255, 60).astype(np.uint8)[None].repeat(40, axis=0)
    rgba = np.dstack([photo(), alpha])
    weight = alpha[..., None] / 255
    expected = photo() * weight + 255 * (1 - weight)
    for file_format, options in LOSSLESS:
        if file_format == "WEBP":
            options = {**options, "exact": True}
        found = decode(saved(rgba, file_format, **options))
        assert np.abs(found - expected).max() <= 1, file_format


def test_transparent_gray_values_and_palette_entries_are_white():
    gray = photo()[..., 1]
    see_through = gray == gray[20, 0]
    expected = np.where(see_through, 255, gray)[..., None].repeat(3, axis=2)
    np.testing.assert_array_equal(decode(saved(gray, "PNG", transparency=int(gray[20, 0]))), expected)
    deep = gray.astype(np.uint16) * 257
    data = with_chunk(saved(deep, "PNG"), b"tRNS", struct.pack(">H", deep[20, 0]))
    np.testing.assert_array_equal(decode(data), expected)
    palette = Image.fromarray(gray).convert("P")
    for file_format in ("PNG", "GIF"):
        found = decode(saved(palette, file_format, transparency=int(gray[20, 0])))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "CMYK", "LAB"])
def test_every_colour_mode_looks_like_the_picture(mode: str):
    image = Image.fromarray(photo()).convert("L" if mode in ("1", "L", "LA") else "RGB")
    expected = np.asarray(image.convert("RGB")).astype(int)
    stored = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    found = decode(saved(stored, "TIFF"))
    tolerance = {"1": 12, "P": 15, "PA": 15, "LAB": 5}.get(mode, 0.01)
    assert abs(found.mean() - expected.mean()) < tolerance


def test_adobe_cmyk_is_not_a_negative(shared_data: Path):
    # The same picture, as a JPEG with inverted inks and as a TIFF with plain ones.
    jpeg = decode((shared_data / "hard" / "jpeg_cmyk_adobe_100.jpg").read_bytes()).astype(int)
    tiff = decode((shared_data / "hard" / "tiff_cmyk_100.tif").read_bytes())
    assert np.abs(jpeg - tiff).mean() < 2


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_first_frame_of_an_animation(file_format: str):
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("red", "blue", "lime")]
    found = decode(saved(frames[0], file_format, save_all=True, append_images=frames[1:]))
    assert found.shape == (8, 16, 3)
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 3


def test_picture_larger_than_a_band_is_copied_whole():
    large = np.tile(photo(50, 64), (60, 25, 1))
    assert large.shape[0] * large.shape[1] > 2**22
    np.testing.assert_array_equal(decode(saved(large, "BMP")), large)


@pytest.mark.parametrize(("file_format", "options"), [*LOSSLESS, ("JPEG", {}), ("GIF", {}), ("BMP", {}), ("AVIF", {})])
def test_picture_of_exactly_max_pixels_passes(file_format: str, options: dict):
    data = saved(photo(), file_format, **options)
    assert decode(data, max_pixels=2400).shape == (40, 60, 3)
    assert failure(data, max_pixels=2399).kind == "too_large"


def test_limit_above_pillows_own_is_heeded():
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 10_000, 1, 0, 0, 0, 0))
    wide = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(2501)))[:-8]
    assert failure(wide).kind == "too_large"
    assert failure(wide, max_pixels=200_000_000).kind == "truncated"


FORMATS = {
    "jpeg": saved(photo(), "JPEG"),
    "progressive jpeg": saved(photo(), "JPEG", progressive=True),
    "png": saved(photo(), "PNG"),
    "gif": saved(Image.fromarray(photo()).convert("P"), "GIF"),
    "bmp": saved(photo(), "BMP"),
    "tiff": saved(photo(), "TIFF"),
    "lzw tiff": saved(photo(), "TIFF", compression="tiff_lzw"),
    "webp": saved(photo(), "WEBP"),
    "lossless webp": saved(photo(), "WEBP", lossless=True),
    "avif": saved(photo(), "AVIF"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_cut_file_fails_or_is_whole_but_never_shows_another_picture(name: str):
    data = FORMATS[name]
    whole, kinds = decode(data), set()
    for end in [*range(20, len(data), max(1, len(data) // 60)), *range(len(data) - 20, len(data))]:
        try:
            np.testing.assert_array_equal(decode(data[:end]), whole)
        except PictureError as error:
            kinds.add(error.kind)
    assert "truncated" in kinds
    assert kinds <= {"truncated", "corrupt", "unsupported"}


@pytest.mark.parametrize("name", ["jpeg", "png", "gif", "lzw tiff"])
def test_file_whose_second_half_was_never_written_fails(name: str):
    data = FORMATS[name]
    assert failure(data[: len(data) // 2] + bytes(len(data) - len(data) // 2)).kind in ("truncated", "corrupt")


def test_png_with_a_damaged_block_fails_though_pillow_passes_it():
    position = FORMATS["png"].index(b"IDAT") + 4 + len(FORMATS["png"]) // 2
    for bit in range(8):
        damaged = bytearray(FORMATS["png"])
        damaged[position] ^= 1 << bit
        assert failure(bytes(damaged)).kind in ("corrupt", "truncated")


def test_what_fails_once_fails_again(shared_data: Path):
    data = (shared_data / "hard" / "corrupt_zlib_128.png").read_bytes()
    assert failure(data).message == failure(data).message


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "not_an_image"),
        (b"BMW builds cars in Munich, and this is a text", "not_an_image"),
        (bytes(1000), "not_an_image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported"),
        (b"\0\0\0\x20ftypisom" + bytes(100), "not_an_image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "unsupported"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"II*\0", "truncated"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "truncated"),
        (saved(photo(), "BMP")[:28] + b"\x07\0" + saved(photo(), "BMP")[30:], "unsupported"),
        (with_chunk(saved(photo(), "PNG"), b"zTXt", b"k\0\0" + zlib.compress(bytes(20_000_000))), "too_large"),
        (with_chunk(saved(photo(), "PNG"), b"iCCP", b"k\0\0" + zlib.compress(bytes(20_000_000))), "too_large"),
        (gray_tiff(b"", 0, 0, 16, 1), "corrupt"),
        (b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + b"\0" * 4 + b"\xff" * 6, "too_large"),
    ],
    ids=str,
)
def test_kind_of_what_is_no_picture(data: bytes, kind: str):
    error = failure(data)
    assert error.kind == kind
    assert "\n" not in error.message
    assert " at 0x" not in error.message


def test_threads_decode_alike():
    with ThreadPoolExecutor(8) as pool:
        for name, data in FORMATS.items():
            first, *others = pool.map(decode, [data] * 8)
            assert all(np.array_equal(first, other) for other in others), name


MEASURE = """
import resource, sys
from pathlib import Path
from pipeline.picture.decode import decode
from schemas.errors import PictureError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        decode(Path(path).read_bytes())
    except PictureError as error:
        print(error.kind)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def measure(*paths: Path) -> list[str]:
    """What a process prints that decodes `paths`; the last line is by how many KiB it grew. Warnings are errors."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", MEASURE, *paths], capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bombs_are_refused_by_their_headers_without_memory(shared_data: Path, tmp_path: Path):
    gif = tmp_path / "dispose.gif"  # a frame of four gigapixels that would be set aside for the next
    frame = b"!\xf9\x04\x08\0\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x08\x01\0\0;"
    gif.write_bytes(b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0, 0, 0) + frame)
    hard = shared_data / "hard"
    *kinds, grown = measure(gif, hard / "bomb_3000000x2000000.bmp", hard / "bomb_65535x66601.gif")
    assert kinds == ["too_large"] * 3
    assert int(grown) < 50_000


def test_large_photograph_needs_two_copies_and_no_words(shared_data: Path):
    (grown,) = measure(shared_data / "hard" / "derived_huge_12000x9000_108MP.jpg")
    # Pillow's 4 bytes a pixel and our 3, and the file.
    assert int(grown) * 1024 < 108_000_000 * 7 + 100_000_000


def test_broken_files_leave_the_terminal_alone(tmp_path: Path):
    (tmp_path / "a.tif").write_bytes(FORMATS["lzw tiff"][:-20])
    (tmp_path / "b.jpg").write_bytes(saved(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"))
    palette = Image.fromarray(photo()).convert("P")
    (tmp_path / "c.png").write_bytes(saved(palette, "PNG", transparency=bytes(range(256))))
    one_sample, many_samples = (struct.pack("<HHII", 277, 4, 1, count) for count in (1, 99))
    (tmp_path / "d.tif").write_bytes(gray_tiff(bytes(4), 2, 1, 16, 1).replace(one_sample, many_samples))
    kinds = measure(*sorted(tmp_path.iterdir()))[:-1]
    assert kinds == ["truncated", "corrupt"]


def test_default_limit_is_pillows_own_error_limit():
    assert DEFAULT_MAX_PIXELS == 2 * (1024 * 1024 * 1024 // 4 // 3)
