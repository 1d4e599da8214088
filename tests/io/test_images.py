import contextlib
import errno
import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from panembed.errors import InputError, OutputError
from panembed.io.image_files import find_images
from panembed.io.images import read_image, write_png

PICTURE = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)


def encoded(format, array=PICTURE, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format=format, **options)
    return buffer.getvalue()


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def read(tmp_path, data, name="a.bin", **options):
    path = tmp_path / name
    path.write_bytes(data)
    image = read_image(path, **options)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    return image


def two_channels(planar, **options):
    array = PICTURE[..., :2] if planar == "contig" else np.moveaxis(PICTURE[..., :2], -1, 0)
    return tiff(array, photometric="minisblack", planarconfig=planar, **options)


def without_extra_samples(data):
    """With another, unknown tag in its place."""
    assert data.count(b"\x52\x01\x03\x00") == 1
    return data.replace(b"\x52\x01\x03\x00", b"\x53\xff\x03\x00")


def unspecified(data):
    """With 0 in the place of the kind of the further channel, which was alpha."""
    entry = b"\x52\x01\x03\x00\x01\x00\x00\x00"
    assert data.count(entry + b"\x02") == 1
    return data.replace(entry + b"\x02", entry + b"\x00")


TWO_CHANNELS = [
    two_channels("contig"),
    two_channels("separate"),
    two_channels("contig", extrasamples=["unspecified"]),
    without_extra_samples(two_channels("contig")),
    unspecified(encoded("TIFF", np.dstack([PICTURE[..., 0], PICTURE[..., 1]]), compression="tiff_lzw")),
]


@pytest.mark.parametrize(
    "data",
    [
        encoded("PNG"),
        encoded("BMP"),
        encoded("TIFF"),
        encoded("TIFF", compression="tiff_lzw"),
        encoded("TIFF", compression="tiff_adobe_deflate"),
        encoded("TIFF", compression="packbits"),
        tiff(PICTURE, photometric="rgb"),
        tiff(PICTURE, photometric="rgb", bigtiff=True, byteorder=">"),
        tiff(np.moveaxis(PICTURE, -1, 0), photometric="rgb", planarconfig="separate"),
    ],
)
def test_lossless_rgb_is_exact_whatever_the_name(tmp_path, data):
    for name in ("a.png", "a.tif", "a.dat"):
        np.testing.assert_array_equal(read(tmp_path, data, name), PICTURE)


def test_jpeg_is_what_pillow_decodes(tmp_path):
    data = encoded("JPEG", quality=90)
    np.testing.assert_array_equal(read(tmp_path, data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_alpha_is_dropped_not_blended(tmp_path, format):
    alpha = np.zeros((9, 14, 1), np.uint8)
    np.testing.assert_array_equal(read(tmp_path, encoded(format, np.dstack([PICTURE, alpha]))), PICTURE)
    grey = Image.merge("LA", [Image.fromarray(PICTURE[..., 0]), Image.new("L", (14, 9), 3)])
    grey.save(tmp_path / "la", format=format)
    np.testing.assert_array_equal(read_image(tmp_path / "la"), np.repeat(PICTURE[..., :1], 3, axis=2))


@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_second_channel_of_a_tiff_is_dropped_where_it_is_alpha(tmp_path, kind, planar):
    data = two_channels(planar, extrasamples=[kind])
    np.testing.assert_array_equal(read(tmp_path, data), np.repeat(PICTURE[..., :1], 3, axis=2))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_black_and_white_and_palette(tmp_path, format, mode):
    image = Image.fromarray(PICTURE).convert(mode)
    image.save(tmp_path / "a", format=format)
    np.testing.assert_array_equal(read_image(tmp_path / "a"), np.asarray(image.convert("RGB")))


def test_palette_with_transparent_bytes_warns_of_nothing(tmp_path):
    image = Image.fromarray(PICTURE).convert("P")
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


def test_white_is_zero(tmp_path):
    grey = PICTURE[..., 0]
    image = read(tmp_path, tiff(grey, photometric="miniswhite"))
    np.testing.assert_array_equal(image[..., 1], 255 - grey)


def test_small_palette_of_four_bits(tmp_path):
    image = Image.fromarray(PICTURE).quantize(6)
    image.save(tmp_path / "a.png", bits=4)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("top", [300, 4095, 65535])
def test_sixteen_bits_are_stretched_from_their_own_range(tmp_path, top):
    ramp = np.linspace(100, top, 100 * 100).round().astype(np.uint16).reshape(100, 100)
    for data in (encoded("PNG", ramp), tiff(ramp), tiff(ramp, byteorder=">", compression="zlib")):
        image = read(tmp_path, data)
        assert image.min() == 0
        assert image.max() == 255
        # Even steps: the middle stays the middle.
        assert abs(int(image[50, 0, 0]) - 128) <= 2
        assert (np.diff(image[..., 0].ravel().astype(int)) >= 0).all()


def test_one_hot_pixel_of_sixteen_bits_does_not_darken_the_rest(tmp_path):
    ramp = np.linspace(0, 1000, 100 * 100).round().astype(np.uint16).reshape(100, 100)
    ramp[3, 3] = 65535
    assert np.median(read(tmp_path, tiff(ramp))) > 100


def test_sixteen_bits_of_few_values(tmp_path):
    flat = np.full((40, 40), 900, np.uint16)
    assert read(tmp_path, tiff(flat)).max() == 0
    flat[0, 0] = 1000
    assert read(tmp_path, tiff(flat))[0, 0].tolist() == [255, 255, 255]


def test_sixteen_bit_rgb_keeps_colour_balance(tmp_path):
    deep = PICTURE.astype(np.uint16) * 16
    image = read(tmp_path, tiff(deep, photometric="rgb"))
    assert np.abs(image.astype(int) - PICTURE).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_turned_upright_as_viewers_do(tmp_path, orientation):
    smooth = np.zeros((16, 32, 3), np.uint8)
    smooth[:8, :16] = 250, 20, 20
    smooth[8:, :16] = 20, 250, 20
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded("JPEG", smooth, exif=exif, quality=95)
    np.testing.assert_array_equal(
        read(tmp_path, data), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    )


def test_png_and_tiff_are_left_as_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(read(tmp_path, encoded("PNG", exif=exif)), PICTURE)
    # tifffile reads the first, Pillow the second.
    for compression in ("raw", "tiff_lzw"):
        for orientation in range(1, 9):
            data = encoded("TIFF", tiffinfo={274: orientation}, compression=compression)
            np.testing.assert_array_equal(read(tmp_path, data), PICTURE)


def huge_png(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return start + struct.pack(">I", 100) + b"IDAT" + zlib.compress(bytes(1000))


def grey_alpha_png(bits):
    """A PNG of grey values and alpha, 4 x 5 pixels."""
    line = b"\0" + np.full((5, 2), [3000, 65535] if bits == 16 else [30, 255], f">u{bits // 8}").tobytes()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 5, 4, bits, 4, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(4 * line)), chunk(b"IEND", b"")]
    )


def packed_tiff(bits):
    """4 x 4 values of so many bits, one after the other, without compression."""
    data = bytes(range(2 * bits))
    tags = {256: 4, 257: 4, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: len(data)}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + table + bytes(4)


def test_eight_bits_of_grey_and_alpha(tmp_path):
    assert (read(tmp_path, grey_alpha_png(8)) == 30).all()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello, I am a text\n" * 9, "not an image of a known kind"),
        (b"GIF89a" + bytes(40), "not an image of a known kind"),
        (encoded("PNG")[:80], "damaged or cut off"),
        (encoded("JPEG")[:200], "damaged or cut off"),
        (encoded("BMP")[:-50], "damaged or cut off"),
        (tiff(PICTURE, photometric="rgb")[:-50], "cut off"),
        (tiff(PICTURE, photometric="rgb", compression="zlib")[:-50], "cut off"),
        (huge_png(200_000, 200_000), "40,000,000,000 in all"),
        (tiff(np.zeros((3, 5, 6), np.uint8), photometric="minisblack"), "more than one picture .3 pages"),
        (tiff(np.zeros((5, 6), np.float32)), "float32"),
        (tiff(np.zeros((5, 6), np.int16)), "int16"),
        (tiff(np.zeros((5, 6, 7), np.uint8), photometric="minisblack", planarconfig="contig"), "7 channels"),
        *((data, "2 channels, and the second is not marked as alpha") for data in TWO_CHANNELS),
    ],
)
def test_what_is_not_a_picture_is_told_in_one_sentence(tmp_path, data, words):
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, data, "odd.png")
    assert str(tmp_path / "odd.png") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_channels_are_refused_before_they_are_decoded(tmp_path):
    array = np.zeros((300, 300, 150), np.uint8)
    data = tiff(array, photometric="minisblack", planarconfig="contig", compression="zlib")
    assert len(data) < array.size / 100
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="150 channels"):
            read(tmp_path, data)
        assert tracemalloc.get_traced_memory()[1] < array.size / 10
    finally:
        tracemalloc.stop()


def test_size_limit(tmp_path):
    for data in (encoded("PNG"), encoded("JPEG"), encoded("BMP"), tiff(PICTURE, photometric="rgb")):
        assert read(tmp_path, data, max_pixels=9 * 14).shape == (9, 14, 3)
        with pytest.raises(InputError, match="14x9 pixels"):
            read(tmp_path, data, max_pixels=9 * 14 - 1)


@pytest.mark.parametrize("bound", [1, 9 * 14 - 1])
def test_size_limit_is_ours_not_pillows(tmp_path, monkeypatch, bound):
    # Above its bound Image.open would warn, and above twice of it fail.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", bound)
    for data in (encoded("PNG"), encoded("JPEG"), encoded("BMP"), encoded("TIFF", compression="packbits")):
        assert read(tmp_path, data).shape == (9, 14, 3)


def test_where_pillows_limit_stays_it_is_told_as_a_size(tmp_path, monkeypatch):
    file = io.BytesIO()
    Image.fromarray(PICTURE).convert("CMYK").save(file, "TIFF")  # which is left to Pillow
    data = file.getvalue()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9 * 14 // 2)
    assert read(tmp_path, data).shape == (9, 14, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9 * 14 // 2 - 1)
    with pytest.raises(InputError, match="14x9 pixels, 126 in all; expected at most 124"):
        read(tmp_path, data)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "a.png")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="can't be opened"):
        read_image(tmp_path / "file" / "a.png")
    with pytest.raises(InputError, match="can't be opened"):
        read_image(tmp_path / "a\0b.png")


GOOD = [
    encoded("PNG"),
    encoded("PNG", np.asarray(Image.fromarray(PICTURE).convert("L"))),
    encoded("JPEG"),
    encoded("BMP"),
    encoded("TIFF"),
    encoded("TIFF", compression="tiff_lzw"),
    tiff(PICTURE, photometric="rgb", compression="zlib"),
    tiff(PICTURE[..., 0].astype(np.uint16)),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_never_give_anything_but_input_errors(tmp_path, data):
    good = data.draw(st.sampled_from(GOOD))
    bad = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6)):
        if position < len(bad):
            bad[position] = value
    (tmp_path / "bad").write_bytes(bad)
    with contextlib.suppress(InputError):
        image = read_image(tmp_path / "bad", max_pixels=10_000)
        assert image.ndim == 3
        assert image.shape[2] == 3


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0+"]), tail=st.binary())
def test_garbage_gives_input_errors(tmp_path, head, tail):
    (tmp_path / "bad").write_bytes(head + tail)
    with pytest.raises(InputError):
        read_image(tmp_path / "bad", max_pixels=10_000)


@pytest.mark.parametrize(
    "array", [PICTURE, PICTURE[..., 0], PICTURE[..., 0].astype(np.uint16) * 257, PICTURE[:, ::-1], PICTURE[:, :, ::-1]]
)
def test_written_png_is_the_array(tmp_path, array):
    write_png(tmp_path / "a.png", array)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), array)


@pytest.mark.parametrize(
    "array",
    [PICTURE.astype(float), PICTURE.astype(np.uint16), PICTURE[..., :2], np.zeros((0, 4), np.uint8), PICTURE[0, 0]],
)
def test_write_png_refuses_what_it_can_not_hold(tmp_path, array):
    with pytest.raises(ValueError, match="expected HxW"):
        write_png(tmp_path / "a.png", array)
    assert os.listdir(tmp_path) == []


def test_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no space"):
        write_png(tmp_path / "a.png", PICTURE)
    assert os.listdir(tmp_path) == []


def test_find_images(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.tiff", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in find_images([tmp_path])] == ["a.jpeg", "b.PNG", "c.tiff"]
    given = [tmp_path / "notes.txt", tmp_path, str(tmp_path / "a.jpeg")]
    assert [p.name for p in find_images(given)] == ["a.jpeg", "b.PNG", "c.tiff", "notes.txt"]


def test_find_images_once_each(tmp_path, monkeypatch):
    """A path is one file however it is written; a link is a file of its own, with a name of its own."""
    monkeypatch.chdir(tmp_path)
    Path("a.png").touch()
    Path("link.png").symlink_to("a.png")
    found = find_images(["a.png", tmp_path / "a.png", "./a.png", tmp_path])
    assert sorted(found) == sorted([Path("a.png"), tmp_path / "link.png"])


def test_find_images_names_a_sub_folder_with_images(tmp_path):
    for name in (".hidden", "results/panoptic", "2026-05-01/raw"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.png").touch()
    for name in ("summary.csv", "objects.csv", "panoptic.json"):
        (tmp_path / "results" / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(InputError, match=r"2026-05-01/raw for one; .* give them as inputs"):
        find_images([tmp_path])
    (tmp_path / "2026-05-01/raw/a.png").unlink()
    with pytest.raises(InputError, match="holds no images; expected"):
        find_images([tmp_path])


def test_find_images_says_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.png: no such file or folder"):
        find_images([tmp_path / "nothing.png"])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds no images.*\.png"):
        find_images([tmp_path])
    with pytest.raises(InputError, match="no images given"):
        find_images([])
