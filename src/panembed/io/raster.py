"""What an image file holds, before it is taken for a picture or for labels.

Files are told apart by their first bytes, not by their names: a JPEG called `.png` is read all the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import struct
from pathlib import Path
from typing import IO, Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin

from panembed.errors import InputError
from panembed.io.plain_png import MAX_BYTES, decode_plain_png

MAX_PIXELS = 2**28
"""Default limit of width * height: 268 megapixels, 0.8 GB as RGB. Above every camera, below most computers' memory."""

KINDS = "PNG, JPEG, BMP or TIFF"

_POINTERS = {
    b"version https://git-lfs": "git lfs pull",
    b"/annex/objects/": "git annex get, or datalad get",
    b".git/annex/objects/": "git annex get, or datalad get",
}
"""First bytes of text files that stand for a file which was not fetched, and what fetches it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Raster:
    """What a file holds.

    Attributes:
        samples: HxW, or HxWxS with S samples a pixel, as stored: bool, uint8, uint16, or whatever a TIFF holds, in the
            computer's byte order.
        palette: colours of the values in `samples`, Nx3 uint8, where the file has a palette.
        format: PNG, JPEG, BMP or TIFF.
        bits: bits a sample in the file.
        orientation: the EXIF orientation of a JPEG, 1..8; 1 for all other files.
        white_is_zero: a TIFF whose 0 is white.
        lossy: the file's compression changes values, as JPEG's does.
        grey_with_alpha: of two channels the file says that the second is alpha.
        separate: the samples of a pixel are channels that lie in pages of their own, or pages without a meaning; they
            are no colours.
        names: of the channels, where the file tells them.
    """

    samples: NDArray[Any]
    palette: NDArray[np.uint8] | None
    format: str
    bits: int
    orientation: int = 1
    white_is_zero: bool = False
    lossy: bool = False
    grey_with_alpha: bool = False
    separate: bool = False
    names: tuple[str, ...] = ()


def read_raster(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, pages: bool = False) -> Raster:
    """Read what a file holds, unchanged: the shared first half of `read_image` and `read_label_image`.

    Args:
        path: a PNG, JPEG, BMP or TIFF file.
        max_pixels: the largest allowed width * height, checked before the pixels are decoded.
        pages: take the pages of a TIFF that doesn't say what they are for channels, instead of refusing the file.

    Raises:
        InputError: the file is missing, empty, damaged, too large, or of another kind.

    >>> import tempfile
    >>> from panembed.io.images import write_png
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_png(Path(folder) / "deep.png", np.full((2, 3), 7, np.uint16))
    ...     raster = read_raster(Path(folder) / "deep.png")
    >>> raster.format, raster.samples.shape, raster.bits
    ('PNG', (2, 3), 16)
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; expected an image file ({KINDS}); name a file inside it")
        with open(path, "rb") as file:
            head = file.read(32)
            if not head:
                raise InputError(f"{path}: is empty; expected an image file ({KINDS}); copy it here again")
            file.seek(0)
            try:
                return _decode(file, head, path, max_pixels, pages)
            except InputError:
                raise
            # Decoders meet damaged bytes with every exception there is, from IndexError to zlib.error.
            except Exception as error:
                raise InputError(
                    f"{path}: is damaged or cut off ({one_line(error)}); expected a whole image file; copy or export "
                    "it again"
                ) from error
    except FileNotFoundError as error:
        if path.is_symlink():
            raise InputError(
                f"{path}: is a link to {os.readlink(path)}, which is not there; expected an image ({KINDS}); fetch the "
                "file (git annex get, or datalad get, where the data are kept so), or mend the link"
            ) from error
        raise InputError(f"{path}: no such file; expected an image ({KINDS}); check the path") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be opened ({one_line(error)}); check the path and its permissions") from error


def one_line(error: Exception) -> str:
    """The cause, short enough for the middle of a sentence.

    >>> one_line(ValueError("a  b"))
    'a b'
    """
    text = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
    text = " ".join(text.split())
    return text if len(text) <= 100 else text[:97] + "..."


def check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Raise InputError where a picture has no pixels, or more than `max_pixels`."""
    if width < 1 or height < 1:
        raise InputError(f"{path}: has {width}x{height} pixels; expected at least one; export it again")
    if width * height > max_pixels:
        raise InputError(
            f"{path}: has {width}x{height} pixels, {width * height:,} in all; expected at most {max_pixels:,}; cut it "
            "into parts or make it smaller"
        )


def _decode(file: IO[bytes], head: bytes, path: Path, max_pixels: int, pages: bool) -> Raster:
    # Pillow's plug-ins are called directly: Image.open would warn or fail at a size of its own (89 megapixels), and the
    # only way to move that bound is a global variable. It would also take some cameras' JPEGs for a list of pictures.
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        bits, color_type = (head[24], head[25]) if len(head) > 25 else (8, 0)
        if bits == 16 and color_type in (2, 4, 6):
            return _deep_png(file, color_type, path, max_pixels)
        image = PngImagePlugin.PngImageFile(file)
        check_size(path, *image.size, max_pixels)
        samples = _plain_png(file)
        if samples is not None:
            return Raster(samples, None, "PNG", bits)
        raster = from_pillow(image, "PNG", bits, path, max_pixels)
        return dataclasses.replace(raster, grey_with_alpha=color_type == 4)
    if head.startswith(b"\xff\xd8\xff"):
        return from_pillow(JpegImagePlugin.JpegImageFile(file), "JPEG", 8, path, max_pixels)
    if head.startswith(b"BM"):
        return from_pillow(BmpImagePlugin.BmpImageFile(file), "BMP", 8, path, max_pixels)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from panembed.io.tiff import read_tiff

        return read_tiff(file, path, max_pixels, pages)
    for start, command in _POINTERS.items():
        if head.startswith(start):
            raise InputError(
                f"{path}: is a pointer to a file that was not fetched; expected an image ({KINDS}); fetch it with "
                f"{command}"
            )
    raise InputError(f"{path}: is not an image of a known kind; expected {KINDS}; convert it first")


def _deep_png(file: IO[bytes], color_type: int, path: Path, max_pixels: int) -> Raster:
    """PNG of 16 bits with colour or alpha, of which Pillow gives the high byte only."""
    with PngImagePlugin.PngImageFile(file) as image:
        check_size(path, *image.size, max_pixels)
        samples = _plain_png(file)
        if samples is None:
            file.seek(0)
            samples = imagecodecs.png_decode(file.read())
    return Raster(_native(samples), None, "PNG", 16, grey_with_alpha=color_type == 4)


def _plain_png(file: IO[bytes]) -> NDArray[Any] | None:
    """What the fast decoder makes of an opened file, if anything; the file stays where Pillow has left it."""
    if os.fstat(file.fileno()).st_size > MAX_BYTES:
        return None
    position = file.tell()
    file.seek(0)
    samples = decode_plain_png(file.read())
    file.seek(position)
    return None if samples is None else _native(samples)


def _native(samples: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in the computer's byte order."""
    return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def from_pillow(image: ImageFile.ImageFile, format: str, bits: int, path: Path, max_pixels: int) -> Raster:
    """What Pillow reads of an opened file.

    Raises:
        InputError: the picture is too large.
    """
    with image:
        check_size(path, *image.size, max_pixels)
        orientation = 1
        if format == "JPEG":
            # A picture is still a picture when its notes are damaged.
            with contextlib.suppress(OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, struct.error):
                orientation = int(image.getexif().get(0x0112, 1))
        image.load()
        samples, palette = _samples(image, format, bits)
    return Raster(samples, palette, format, bits, orientation if 1 <= orientation <= 8 else 1, lossy=format == "JPEG")


def raster_of(image: Image.Image) -> Raster:
    """What a Pillow image holds; turned as its EXIF orientation says, as files are.

    >>> raster_of(Image.new("L", (3, 2))).samples.shape
    (2, 3)
    """
    samples, palette = _samples(image, "", 8)
    orientation = image.getexif().get(0x0112, 1) if image.format == "JPEG" else 1
    turned = orientation if orientation in range(1, 9) else 1
    return Raster(samples, palette, "Pillow", 8 * samples.dtype.itemsize, turned, grey_with_alpha=image.mode == "LA")


def _samples(image: Image.Image, format: str, bits: int) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """An image's values, and the colours of its palette."""
    flat: Image.Image = image if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "F") else _plain(image)
    palette = None
    if flat.mode == "P":
        colors = np.asarray(flat.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[: len(colors)] = colors
    samples = _native(np.array(flat))
    if flat.mode == "I" and format == "PNG":
        # Pillow before 11 gives 16-bit grey as 32-bit integers.
        samples = samples.astype(np.uint16)
    if flat.mode == "L" and format == "PNG" and bits in (2, 4):
        samples = samples // np.uint8(255 // (2**bits - 1))  # Pillow stretches them to 0..255
    return samples, palette


def _plain(image: Image.Image) -> Image.Image:
    """Sixteen bits stay, big-endian or not; CMYK and other colour spaces become RGB, PA its indices."""
    if image.mode.startswith("I;16"):
        return image
    return image.convert("RGB")


def upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror as EXIF orientation 1..8 says (CIPA DC-008, tag 0x0112).

    >>> upright(np.array([[1, 2]]), 6).tolist()
    [[1], [2]]
    """
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
