"""Files read to the digit, whatever their compression, depth and pages; what is behind display colours; links."""

import logging
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from panembed.errors import InputError
from panembed.io.image_files import find_images
from panembed.io.images import read_image, read_raster
from panembed.io.label_images import read_label_image

GREY8 = (np.add.outer(3 * np.arange(24), 7 * np.arange(32)) % 256).astype(np.uint8)
GREY16 = GREY8.astype(np.uint16) * 257
RGB8 = np.stack([GREY8, GREY8[::-1], 255 - GREY8], axis=-1)


LOSSLESS = [
    *((name, predictor, order) for name in ("lzw", "zlib", "zstd", "lzma") for predictor in (0, 1) for order in "<>"),
    *((name, 0, order) for name in (None, "packbits", "jpeg2000") for order in "<>"),
    ("lerc", 0, "<"),  # tifffile writes no other
]


@pytest.mark.parametrize(("compression", "predictor", "byteorder"), LOSSLESS)
@pytest.mark.parametrize("array", [GREY8, GREY16, RGB8, RGB8.astype(np.uint16) * 257], ids=["g8", "g16", "c8", "c16"])
def test_compressed_tiffs_are_exact(tmp_path, array, compression, predictor, byteorder):
    photometric = "rgb" if array.ndim == 3 else "minisblack"
    options = {"compressionargs": {"level": 0}} if compression == "jpeg2000" else {}
    given = {"photometric": photometric, "compression": compression, "byteorder": byteorder}
    tifffile.imwrite(tmp_path / "a.tif", array, predictor=bool(predictor), **given, **options)
    samples = read_raster(tmp_path / "a.tif").samples
    np.testing.assert_array_equal(samples, array)
    assert samples.dtype == array.dtype
    assert samples.dtype.isnative


@pytest.mark.parametrize("compression", ["lzw", "zstd", "packbits"])
def test_compressed_labels_are_exact(tmp_path, compression):
    tifffile.imwrite(tmp_path / "a.tif", GREY16, compression=compression)
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.tif"), GREY16)


def chunked_png(array, color_type):
    """A 16-bit PNG by the letter of its specification."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, color_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_deep_png_has_all_its_bits(tmp_path, color_type, channels):
    array = np.repeat((GREY8.astype(np.uint16) * 16 + 5)[..., None], channels, axis=-1)
    array[..., -1] += color_type != 2
    (tmp_path / "a.png").write_bytes(chunked_png(array, color_type))
    np.testing.assert_array_equal(read_raster(tmp_path / "a.png").samples, array)
    # As the same numbers in a TIFF: twelve bits are not black.
    tifffile.imwrite(tmp_path / "a.tif", np.repeat(array[..., :1], 3, axis=-1), photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "a.tif"))


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_are_numbers_to_labels_and_bright_to_pictures(tmp_path, bits):
    numbers = np.arange(2**bits, dtype=np.uint8)[None]
    line = np.packbits(np.unpackbits(numbers[..., None], axis=-1)[..., 8 - bits :].ravel()).tobytes()
    tags = {256: 2**bits, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(line)}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = struct.pack("<2sHI", b"II", 42, 8 + len(line)) + line + struct.pack("<H", len(tags)) + table + bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.tif"), numbers)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], numbers * (255 // (2**bits - 1)))


def test_twelve_packed_bits(tmp_path):
    numbers = np.arange(0, 4096, 64, dtype=np.uint16)[None]
    line = np.packbits(np.unpackbits(numbers.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:].ravel())
    tags = {256: 64, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: line.size}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = struct.pack("<2sHI", b"II", 42, 8 + line.size) + line.tobytes() + struct.pack("<H", 9) + table + bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.tif"), numbers)


RAMP = np.arange(256, dtype=np.uint8)
NONE = np.zeros(256, np.uint8)
FIRE = np.stack([np.clip(RAMP * 3.0, 0, 255), np.clip(RAMP * 3.0 - 255, 0, 255), np.clip(RAMP * 3.0 - 510, 0, 255)])


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("lut", [(NONE, RAMP, NONE), (NONE, RAMP, RAMP), FIRE.astype(np.uint8)], ids=str)
def test_display_colours_are_for_the_eye(tmp_path, lut, suffix):
    picture = Image.fromarray(GREY8)
    picture.putpalette(np.stack(lut, -1).ravel().tolist())
    picture.save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), np.repeat(GREY8[..., None], 3, -1))
    coloured = read_image(tmp_path / f"a.{suffix}", channel="rgb")
    np.testing.assert_array_equal(coloured, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("colors", [8, 64, 256])
def test_a_photograph_with_a_palette_keeps_its_colours(tmp_path, colors):
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((80, 60), Image.Resampling.BICUBIC)
    for method in (Image.Quantize.MEDIANCUT, Image.Quantize.FASTOCTREE):
        reduced = photo.quantize(colors, method)
        reduced.save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(reduced.convert("RGB")))


STACK = np.stack([GREY16, GREY16[::-1] // 2])


def two_channels(path, kind):
    if kind == "imagej":
        tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "CYX", "Labels": ["DAPI", "GFP"]})
    elif kind == "ome":
        tifffile.imwrite(path, STACK, ome=True, metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}})
    elif kind == "samples":
        tifffile.imwrite(path, np.moveaxis(STACK, 0, -1), photometric="minisblack", planarconfig="contig")
    else:
        tifffile.imwrite(path, STACK, photometric="minisblack", metadata=None)


@pytest.mark.parametrize("kind", ["imagej", "ome", "samples", "pages"])
def test_one_of_two_channels(tmp_path, kind):
    two_channels(tmp_path / "two.tif", kind)
    for number in (1, 2):
        tifffile.imwrite(tmp_path / "one.tif", STACK[number - 1])
        chosen = read_image(tmp_path / "two.tif", channel=number)
        np.testing.assert_array_equal(chosen, read_image(tmp_path / "one.tif"))
    with pytest.raises(InputError, match="--channel") as caught:
        read_image(tmp_path / "two.tif")
    assert ("1 DAPI, 2 GFP" in str(caught.value)) == (kind in ("imagej", "ome"))
    for wrong in (3, "green"):
        told = "choose one with --channel N" if kind == "pages" and wrong == "green" else "a number from 1 to 2"
        with pytest.raises(InputError, match=told):
            read_image(tmp_path / "two.tif", channel=wrong)
    with pytest.raises(InputError):
        read_label_image(tmp_path / "two.tif")


def test_a_colour_of_rgb_and_of_grey(tmp_path):
    Image.fromarray(RGB8).save(tmp_path / "rgb.png")
    Image.fromarray(GREY8).save(tmp_path / "grey.png")
    for index, name in enumerate(("red", "green", "blue")):
        expected = np.repeat(RGB8[..., index, None], 3, -1)
        np.testing.assert_array_equal(read_image(tmp_path / "rgb.png", channel=name), expected)
        np.testing.assert_array_equal(read_image(tmp_path / "rgb.png", channel=index + 1), expected)
        np.testing.assert_array_equal(
            read_image(tmp_path / "grey.png", channel=name), read_image(tmp_path / "grey.png")
        )
    with pytest.raises(InputError, match="no channel 2, but one channel"):
        read_image(tmp_path / "grey.png", channel=2)


def test_planes_and_times_are_no_channels(tmp_path):
    tifffile.imwrite(tmp_path / "z.tif", STACK, imagej=True, metadata={"axes": "ZYX"})
    for channel in ("auto", 1):
        with pytest.raises(InputError, match="planes of a stack"):
            read_image(tmp_path / "z.tif", channel=channel)


def test_one_file_of_a_set_is_its_own_picture_and_nobody_logs(tmp_path, capfd):
    tifffile.imwrite(tmp_path / "whole.ome.tif", np.stack([GREY8, GREY8]), metadata={"axes": "CYX"})
    with tifffile.TiffFile(tmp_path / "whole.ome.tif") as whole:
        text = whole.ome_metadata
    text = text.replace('SizeC="2"', 'SizeC="3"').replace(
        '<TiffData IFD="0" PlaneCount="2"/>',
        '<TiffData FirstC="0" IFD="0" PlaneCount="1"><UUID FileName="other.ome.tif">urn:uuid:1</UUID></TiffData>',
    )
    assert "other.ome.tif" in text
    tifffile.imwrite(tmp_path / "one.ome.tif", GREY8, description=text, metadata=None)
    np.testing.assert_array_equal(read_image(tmp_path / "one.ome.tif")[..., 0], GREY8)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("tifffile").handlers


def test_links_to_nowhere_are_files_that_cant_be_read(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "annex" / "a.png")
    assert find_images([tmp_path]) == find_images([tmp_path / "a.png"]) == [tmp_path / "a.png"]
    with pytest.raises(InputError, match=r"a\.png: is a link to .*annex.* not there"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("/annex/objects/SHA256E-s1--0.png", "annex"),
    ],
)
def test_pointers_say_how_to_fetch(tmp_path, text, command):
    (tmp_path / "a.png").write_text(text)
    with pytest.raises(InputError, match=command):
        read_image(tmp_path / "a.png")
