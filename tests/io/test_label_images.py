import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from panembed.errors import InputError
from panembed.io.label_images import read_label_image, write_instances

IDS = np.array([[0, 0, 1, 200], [3, 3, 1, 200]], np.uint8)


def save(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_palette_gives_indices_not_colours(tmp_path, suffix):
    image = Image.fromarray(IDS)
    image = image.convert("P") if image.mode != "P" else image
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
    found = read_label_image(save(tmp_path / f"a{suffix}", image))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, IDS)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_not_stretched(tmp_path, bits):
    ids = np.arange(16).reshape(2, 8) % 2**bits
    rows = b"".join(b"\0" + np.packbits(_bits(row, bits)).tobytes() for row in ids)
    (tmp_path / "a.png").write_bytes(_png(8, 2, bits, 0, rows))
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.png"), ids)


def _bits(row, bits):
    return np.concatenate([[value >> b & 1 for b in reversed(range(bits))] for value in row.tolist()])


def _png(width, height, bits, color, rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_png(tmp_path, dtype):
    ids = IDS.astype(dtype) * (300 if dtype == np.uint16 else 1)
    np.testing.assert_array_equal(read_label_image(save(tmp_path / "a.png", Image.fromarray(ids))), ids)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_integer_tiff(tmp_path, dtype, compression):
    ids = IDS.astype(dtype)
    ids[0, 0] = min(np.iinfo(dtype).max, 2**31 - 1)
    ids[0, 1] = max(np.iinfo(dtype).min, -(2**31))
    tifffile.imwrite(tmp_path / "a.tif", ids, compression=compression)
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.tif"), ids.astype(np.int64))


def test_rgb_is_packed_without_overflow(tmp_path):
    rgb = np.array([[[0, 0, 0], [255, 255, 255], [5, 1, 0], [0, 0, 1]]], np.uint8)
    expected = [[0, 2**24 - 1, 261, 65536]]
    assert read_label_image(save(tmp_path / "a.png", Image.fromarray(rgb))).tolist() == expected
    for value in (0, 7, 255):
        rgba = np.dstack([rgb, np.full((1, 4, 1), value, np.uint8)])
        assert read_label_image(save(tmp_path / "a.png", Image.fromarray(rgba))).tolist() == expected


def test_varying_alpha_is_refused(tmp_path):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0, 3] = 255
    with pytest.raises(InputError, match="alpha channel varies"):
        read_label_image(save(tmp_path / "a.png", Image.fromarray(rgba)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fractions_are_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", IDS.astype(dtype))
    with pytest.raises(InputError, match=r"a\.tif: holds float.*whole numbers"):
        read_label_image(tmp_path / "a.tif")


def test_ids_beyond_int32_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((2, 2), 2**31, np.uint32))
    with pytest.raises(InputError, match="holds the id 2147483648"):
        read_label_image(tmp_path / "a.tif")


def test_jpeg_is_refused(tmp_path):
    Image.fromarray(IDS).save(tmp_path / "a.jpg")
    Image.fromarray(IDS).save(tmp_path / "a.tif", compression="jpeg")
    for name in ("a.jpg", "a.tif"):
        with pytest.raises(InputError, match="compressed as JPEG"):
            read_label_image(tmp_path / name)


def test_deep_rgb_is_refused(tmp_path):
    # Pillow would keep the high bytes only.
    (tmp_path / "a.png").write_bytes(_png(1, 1, 16, 2, b"\0" + bytes([0, 5, 0, 0, 0, 0])))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4, 3), np.uint16), photometric="rgb")
    for name in ("a.png", "a.tif"):
        with pytest.raises(InputError, match="channels of 16 bits"):
            read_label_image(tmp_path / name)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=npst.arrays(
        np.int64, npst.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 2**31 - 1)
    ),
    shift=st.sampled_from([0, 16, 24]),
)
def test_written_instances_come_back(tmp_path, ids, shift):
    ids = ids >> shift
    path = write_instances(tmp_path / "img.v2", ids)
    assert path.name == ("img.v2.png" if ids.max() <= 65535 else "img.v2.tif")
    np.testing.assert_array_equal(read_label_image(path), ids)


@pytest.mark.parametrize("name", ["a", "a.png", "a.tif", "a.TIFF"])
def test_suffix_follows_what_is_written(tmp_path, name):
    assert write_instances(tmp_path / name, IDS).name == "a.png"
    assert write_instances(tmp_path / name, IDS.astype(np.int32) * 65536).name == "a.tif"
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "I;16"
    assert tifffile.imread(tmp_path / "a.tif").dtype == np.uint32


@pytest.mark.parametrize("array", [IDS.astype(float), IDS[0], -IDS.astype(int), np.zeros((0, 3), int)])
def test_write_instances_refuses(tmp_path, array):
    with pytest.raises(ValueError, match="instance: expected"):
        write_instances(tmp_path / "a", array)
    assert list(tmp_path.iterdir()) == []


def encodings():
    for options in ({"format": "PNG"}, {"format": "TIFF"}, {"format": "TIFF", "compression": "tiff_lzw"}):
        buffer = io.BytesIO()
        Image.fromarray(np.kron(IDS, np.ones((8, 8), np.uint8))).convert("P").save(buffer, **options)
        yield buffer.getvalue()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(good=st.sampled_from(list(encodings())), data=st.data())
def test_damaged_labels_never_give_anything_but_input_errors(tmp_path, good, data):
    bad = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4)):
        if position < len(bad):
            bad[position] = value
    (tmp_path / "bad").write_bytes(bad)
    with contextlib.suppress(InputError):
        assert read_label_image(tmp_path / "bad", max_pixels=10_000).ndim == 2
