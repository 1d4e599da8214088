"""The fast PNG decoder: Pillow's pixels on every kind, Pillow's errors on every fault, and no memory for a bomb."""

import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from panembed.errors import InputError
from panembed.io import raster
from panembed.io.plain_png import MAX_BYTES, decode_plain_png
from panembed.io.raster import read_raster

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def filtered(array, filters):
    """Rows with their filters, by the letter of the specification (section 9)."""
    height = len(array)
    rows = array.astype(array.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1).astype(np.int32)
    pixel = array[0, 0].nbytes
    a, b, c = np.zeros((3, *rows.shape), dtype=np.int32)
    a[:, pixel:], b[1:], c[1:, pixel:] = rows[:, :-pixel], rows[:-1], rows[:-1, :-pixel]
    p = a + b - c
    nearest = np.where(
        (abs(p - a) <= abs(p - b)) & (abs(p - a) <= abs(p - c)), a, np.where(abs(p - b) <= abs(p - c), b, c)
    )
    guesses = [np.zeros_like(rows), a, b, (a + b) // 2, nearest]
    return b"".join(
        bytes([kind]) + ((rows[y] - guesses[kind][y]) % 256).astype(np.uint8).tobytes()
        for y, kind in enumerate(filters)
    )


def png(array, filters=None, *, level=6, parts=1, before=(), after=(), header=None):
    """A PNG of grey or RGB; `header` replaces width and height."""
    height, width = array.shape[:2]
    stream = zlib.compress(filtered(array, filters or [0] * height), level)
    color_type, (w, h) = 0 if array.ndim == 2 else 2, header or (width, height)
    step = -(-len(stream) // parts)
    return b"".join(
        [
            SIGNATURE,
            chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8 * array.itemsize, color_type, 0, 0, 0)),
            *(chunk(*item) for item in before),
            *(chunk(b"IDAT", stream[start : start + step]) for start in range(0, len(stream), step)),
            *(chunk(*item) for item in after),
            chunk(b"IEND", b""),
        ]
    )


def slow(path, monkeypatch):
    """What the decoder for all kinds says: the samples, or the sentence of its error."""
    with monkeypatch.context() as patched:
        patched.setattr(raster, "decode_plain_png", lambda data: None)
        return outcome(path)


def outcome(path):
    try:
        samples = read_raster(path).samples
    except InputError as error:
        return str(error)
    return samples.dtype, samples.shape, samples.tobytes()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_all_filters_give_the_array(tmp_path, channels, deep, data):
    height, width = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    top = data.draw(st.sampled_from([2, 256, 65536 if deep else 256]))
    shape = (height, width) if channels == 1 else (height, width, 3)
    array = rng.integers(0, top, shape).astype(np.uint16 if deep else np.uint8)
    filters = data.draw(st.lists(st.integers(0, 4), min_size=height, max_size=height))
    given = {"level": data.draw(st.sampled_from([0, 1, 9])), "parts": data.draw(st.integers(1, 4))}
    file = png(array, filters, before=[(b"gAMA", struct.pack(">I", 45455))], **given)
    np.testing.assert_array_equal(decode_plain_png(file), array)
    (tmp_path / "a.png").write_bytes(file)
    samples = read_raster(tmp_path / "a.png").samples
    np.testing.assert_array_equal(samples, array)
    assert samples.dtype == array.dtype
    assert samples.dtype.isnative
    if not (deep and channels == 3):  # of which Pillow keeps half the bits
        with Image.open(tmp_path / "a.png") as image:
            np.testing.assert_array_equal(samples, np.asarray(image))


@pytest.mark.parametrize("size", [65534, 65535, 65536, 2 * 65535, 2 * 65535 + 1])
def test_blocks_of_the_stored_stream(size):
    array = (np.arange(size - 1) % 251).astype(np.uint8)[None]  # and the filter's byte
    np.testing.assert_array_equal(decode_plain_png(png(array)), array)


ODD = np.random.default_rng(0).integers(0, 256, (37, 53, 4), np.uint8)
KINDS = {
    "L": (Image.fromarray(ODD[..., 0]), {}, True),
    "RGB": (Image.fromarray(ODD[..., :3]), {}, True),
    "I;16": (Image.fromarray(ODD.view(np.uint16)[..., 0]), {}, True),
    "RGB with resolution and profile": (
        Image.fromarray(ODD[..., :3]),
        {"dpi": (72, 72), "icc_profile": b"x" * 200},
        True,
    ),
    "LA": (Image.fromarray(ODD).convert("LA"), {}, False),
    "RGBA": (Image.fromarray(ODD), {}, False),
    "P": (Image.fromarray(ODD[..., :3]).quantize(64), {}, False),
    "P of two bits": (Image.fromarray(ODD[..., :3]).quantize(4), {"bits": 2}, False),
    "P, transparent": (Image.fromarray(ODD[..., :3]).quantize(64), {"transparency": 3}, False),
    "1": (Image.fromarray(ODD[..., 0]).convert("1"), {}, False),
    "L, transparent": (Image.fromarray(ODD[..., 0]), {"transparency": 7}, False),
    "RGB, transparent": (Image.fromarray(ODD[..., :3]), {"transparency": (1, 2, 3)}, False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_pillows_pixels(tmp_path, monkeypatch, kind):
    image, options, plain = KINDS[kind]
    image.save(tmp_path / "a.png", **options)
    assert (decode_plain_png((tmp_path / "a.png").read_bytes()) is not None) == plain
    assert outcome(tmp_path / "a.png") == slow(tmp_path / "a.png", monkeypatch)
    with Image.open(tmp_path / "a.png") as saved:
        np.testing.assert_array_equal(read_raster(tmp_path / "a.png").samples, np.asarray(saved))


def test_interlaced_files_stay_with_pillow(tmp_path):
    # One pixel is the first of Adam7's seven passes; the others are empty.
    file = bytearray(png(np.array([[[1, 2, 3]]], np.uint8)))
    file[28] = 1
    file[29:33] = struct.pack(">I", zlib.crc32(file[12:29]))
    (tmp_path / "a.png").write_bytes(file)
    assert decode_plain_png(bytes(file)) is None
    assert read_raster(tmp_path / "a.png").samples.tolist() == [[[1, 2, 3]]]


def faults():
    array = ODD[..., :3]
    whole = png(array, [1, 2, 3, 4, 0] * 7 + [2, 4])
    stream = zlib.compress(filtered(array, [0] * 37))
    text = (b"tEXt", b"a\0b")
    return {
        "cut in the pixels": whole[: len(whole) // 2],
        "cut before the end": whole[:-12],
        "bytes after the end": whole + b"more",
        "more rows than it says": png(array, header=(53, 30)),
        "fewer rows than it says": png(array, header=(53, 40)),
        "other width": png(array, header=(52, 37)),
        "chunk after the pixels": png(array, after=[text]),
        "chunk with a wrong checksum": whole[:33] + chunk(*text)[:-1] + b"?" + whole[33:],
        "unknown critical chunk": png(array, before=[(b"ABCD", b"")]),
        "wrong checksum of the chunk": whole[:-14] + bytes([whole[-14] ^ 1]) + whole[-13:],
        "wrong checksum of the stream": png(array).replace(stream[-4:], bytes(4)),
        "two headers": png(array, before=[(b"IHDR", whole[16:29])]),
        "palette for the eye": png(array, before=[(b"PLTE", bytes(range(9)))]),
        "animation": png(array, before=[(b"acTL", struct.pack(">II", 1, 0))]),
        "pixels in two places": png(array, before=[(b"IDAT", stream[:9]), text]),
        "no pixels": whole[:33] + chunk(b"IEND", b""),
        "header only": whole[:33],
        "chunk that leads out": whole[:33] + b"\xff\xff\xff\xff" + whole[37:],
    }


@pytest.mark.parametrize("name", faults())
def test_faults_are_told_as_ever(tmp_path, monkeypatch, name):
    (tmp_path / "a.png").write_bytes(faults()[name])
    assert outcome(tmp_path / "a.png") == slow(tmp_path / "a.png", monkeypatch)


def test_a_filter_that_is_none(tmp_path, monkeypatch):
    rows = bytes([0, 1, 2, 9, 3, 4])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(SIGNATURE + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert outcome(tmp_path / "a.png") == slow(tmp_path / "a.png", monkeypatch)
    assert decode_plain_png((tmp_path / "a.png").read_bytes()) is None


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 10_000), value=st.integers(1, 255), cut=st.booleans())
def test_any_damage_gives_what_it_gave(tmp_path, monkeypatch, place, value, cut):
    file = bytearray(png(ODD[:9, :11, :3] // 64, [0, 1, 2, 3, 4, 2, 2, 4, 1], before=[(b"pHYs", bytes(9))], parts=2))
    place %= len(file)
    if cut:
        del file[place:]
    else:
        file[place] ^= value
    (tmp_path / "a.png").write_bytes(file)
    assert outcome(tmp_path / "a.png") == slow(tmp_path / "a.png", monkeypatch)


def test_no_memory_for_what_is_not_there(tmp_path):
    bomb = png(np.zeros((4000, 4000), np.uint8), level=9, header=(10, 10))
    empty = png(np.zeros((2, 2), np.uint8), header=(8000, 8000))
    large = png(np.zeros((1, 1), np.uint8), header=(MAX_BYTES, 1))
    tracemalloc.start()
    try:
        assert [decode_plain_png(file) for file in (bomb, empty, large)] == [None, None, None]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    (tmp_path / "a.png").write_bytes(large)
    with pytest.raises(InputError, match="expected at most 1,000"):
        read_raster(tmp_path / "a.png", max_pixels=1000)


def test_pictures_keep_their_pixels_and_threads_their_memory():
    rng = np.random.default_rng(1)
    arrays = [rng.integers(0, 3, (int(rng.integers(1, 90)), 70, 3), np.uint8) for _ in range(60)]
    with ThreadPoolExecutor(4) as pool:
        decoded = list(pool.map(decode_plain_png, [png(array, [2] * len(array)) for array in arrays]))
    for array, samples in zip(arrays, decoded):
        np.testing.assert_array_equal(samples, array)
        assert samples.flags.writeable


def test_libpng_and_pillow_agree_on_a_file_of_pillows(tmp_path):
    Image.fromarray(ODD[..., :3] // 128).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(decode_plain_png(data), imagecodecs.png_decode(data))
