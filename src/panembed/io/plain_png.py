"""PNGs of the plain kinds, decoded several times faster than Pillow does it."""

from __future__ import annotations

import struct
import threading
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 2**26
"""Larger pictures stay with Pillow, which needs their memory once, not three times."""

_KEPT_BYTES = 2**24
"""Buffers up to this size stay for the next picture of their thread: fresh memory takes longer than what is in it."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_SAMPLES = {0: 1, 2: 3}  # of grey and of RGB
_ANIMATED = (b"acTL", b"fcTL", b"fdAT")
_FULL_BLOCK = 65535
_BLOCK_HEADER = 5
_MAX_RATIO = 1032  # of DEFLATE
_buffers = threading.local()


def decode_plain_png(data: bytes) -> NDArray[Any] | None:
    """Decode a PNG of grey or RGB, 8 or 16 bits, if it is whole, not interlaced, and has no transparent colour.

    Three quarters of the time of a PNG of labels are its DEFLATE stream, in libpng as in Pillow. libdeflate is ten
    times faster, so it unpacks the stream; libpng, which undoes the row filters, then gets a PNG in memory whose stream
    is stored without compression.

    Args:
        data: the whole file; its chunks before the pixels have been checked, and its size is allowed.

    Returns:
        HxW or HxWx3, uint8 or uint16; None for any other PNG, and for one with any fault: whoever asked then takes the
        slower decoder, which knows all kinds and says what is wrong.

    >>> decode_plain_png(b"no PNG") is None
    True
    """
    try:
        return _decode(data)
    except Exception:  # the slower decoder finds it again, and has the words for it
        return None


def _decode(data: bytes) -> NDArray[Any] | None:
    if len(data) < 45 or not data.startswith(_SIGNATURE) or not data.endswith(_END):
        return None
    length, kind, width, height, bits, color_type, *methods = struct.unpack(">I4sIIBBBBB", data[8:29])
    if (length, kind) != (13, b"IHDR") or bits not in (8, 16) or color_type not in _SAMPLES or any(methods):
        return None
    size = height * (1 + width * _SAMPLES[color_type] * (bits // 8))
    if not 0 < size <= MAX_BYTES:
        return None
    stream = _stream(data)
    if stream is None or len(stream) * _MAX_RATIO < size:
        return None
    full, rest = divmod(size, _FULL_BLOCK)
    stored_size = 2 + size + _BLOCK_HEADER * (full + 1) + 4
    # imagecodecs takes arrays, though its type hints name bytes only.
    rows: Any = _buffer("rows", size)
    # Checks the stream's own checksum. A stream that holds more than the header says doesn't fit and fails.
    if len(imagecodecs.deflate_decode(stream, out=rows)) != size:
        return None
    png: Any = _buffer("png", 41 + stored_size + 4 + len(_END))
    png[:41] = _bytes(data[:33] + struct.pack(">I4s", stored_size, b"IDAT"))
    _store(rows, png[41 : 41 + stored_size], full, rest)
    crc = imagecodecs.deflate_crc32(png[37 : 41 + stored_size])
    png[41 + stored_size :] = _bytes(struct.pack(">I", crc) + _END)
    samples: NDArray[Any] = imagecodecs.png_decode(png)
    expected = (height, width) if color_type == 0 else (height, width, 3)
    return samples if samples.shape == expected and samples.dtype.itemsize == bits // 8 else None


def _stream(data: bytes) -> bytes | None:
    """The DEFLATE stream with its zlib header; None where a chunk is of no plain PNG, or out of place."""
    parts: list[bytes] = []
    position, before = 33, b"IHDR"
    while position < len(data) - len(_END):
        length, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if kind == b"IDAT":
            parts.append(data[start : start + length])
        # After the pixels nothing but the end; before them no critical chunk, such as a palette.
        elif before == b"IDAT" or kind == b"tRNS" or kind in _ANIMATED or not kind[:1].islower():
            return None
        position, before = start + length + 4, kind
    if position != len(data) - len(_END):
        return None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _store(rows: Any, out: NDArray[np.uint8], full: int, rest: int) -> None:
    """Write bytes as a zlib stream without compression (RFC 1950, and RFC 1951, section 3.2.4)."""
    out[:2] = (0x78, 0x01)
    blocks = out[2 : 2 + full * (_BLOCK_HEADER + _FULL_BLOCK)].reshape(full, _BLOCK_HEADER + _FULL_BLOCK)
    blocks[:, :_BLOCK_HEADER] = (0, 255, 255, 0, 0)
    blocks[:, _BLOCK_HEADER:] = rows[: full * _FULL_BLOCK].reshape(full, _FULL_BLOCK)
    last = out[2 + blocks.size :]
    last[:_BLOCK_HEADER] = _bytes(struct.pack("<BHH", 1, rest, rest ^ 0xFFFF))
    last[_BLOCK_HEADER : _BLOCK_HEADER + rest] = rows[full * _FULL_BLOCK :]
    last[_BLOCK_HEADER + rest :] = _bytes(struct.pack(">I", imagecodecs.deflate_adler32(rows)))


def _bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)


def _buffer(name: str, size: int) -> NDArray[np.uint8]:
    """Memory of this thread, of the last picture or fresh."""
    kept: NDArray[np.uint8] | None = getattr(_buffers, name, None)
    if kept is None or kept.size < size:
        kept = np.empty(size, dtype=np.uint8)
        if size <= _KEPT_BYTES:
            setattr(_buffers, name, kept)
    return kept[:size]
