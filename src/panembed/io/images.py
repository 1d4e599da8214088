"""Pictures in and out: one way to read every file people have, one way to write.

Files are told apart by their first bytes, not by their names: a JPEG called `.png` is read all the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from panembed.errors import InputError
from panembed.io.atomic import atomic_path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Suffixes of files taken for images in a folder, in lower case; upper case counts too."""

MAX_PIXELS = 2**28
"""Default limit of width * height: 268 megapixels, 0.8 GB as RGB. Above every camera, below most computers' memory."""

PNG_EFFORT: dict[str, int] = {"compress_level": 1, "compress_type": 3}
"""How PNGs are packed: zlib's fastest level, several times faster than the usual 6, and its strategy Z_RLE, which suits
images of few colours: label images get a third to a half smaller by it."""

_KINDS = "PNG, JPEG, BMP or TIFF"

_MOST_CHANNELS = 4
"""RGB and alpha, or whatever the fourth is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Raster:
    """What a file holds, before it is taken for a picture or for labels.

    Attributes:
        samples: HxW, or HxWxS with S samples a pixel, as stored: bool, uint8, uint16, or whatever a TIFF holds. Grey
            values of 2 or 4 bits are stretched to 0..255.
        palette: colours of the values in `samples`, Nx3 uint8, where the file has a palette.
        format: PNG, JPEG, BMP or TIFF.
        bits: bits a sample in the file.
        orientation: the EXIF orientation of a JPEG, 1..8; 1 for all other files.
        white_is_zero: a TIFF whose 0 is white.
        lossy: the file's compression changes values, as JPEG's does.
        grey_with_alpha: of two channels the file says that the second is alpha.
    """

    samples: NDArray[Any]
    palette: NDArray[np.uint8] | None
    format: str
    bits: int
    orientation: int = 1
    white_is_zero: bool = False
    lossy: bool = False
    grey_with_alpha: bool = False


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a picture as 8-bit RGB.

    - Grey and palette pictures are expanded, alpha is dropped (what lies under it is kept).
    - 16 bits a sample: the values from the 0.1th to the 99.9th percentile of the picture, all channels together, are
      stretched to 0..255, and what lies outside is clipped. Cameras store 10, 12 or 14 bits in 16; dividing by 256
      would leave such pictures nearly black, and stretching to the extremes would let one hot pixel do the same.
      A picture of one value becomes 0. Exception: 16-bit *colour* PNG is read by its high byte (Pillow's limit), and
      16-bit grey PNG with alpha is refused, as its high byte would be nearly black.
    - A JPEG is turned as its EXIF orientation says: cameras store it so, and every viewer and labelling tool shows the
      turned picture, so that masks lie on what people see. Other files are taken as they are stored.

    Args:
        path: a PNG, JPEG, BMP or TIFF file of one page.
        max_pixels: the largest allowed width * height, checked before the pixels are decoded.

    Returns:
        HxWx3 uint8, RGB.

    Raises:
        InputError: the file is missing, empty, damaged, too large, or not a picture of one of these kinds.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_png(Path(folder) / "grey.png", np.full((2, 3), 7, np.uint8))
    ...     read_image(Path(folder) / "grey.png")[0, 0].tolist()
    [7, 7, 7]
    """
    raster = read_raster(path, max_pixels=max_pixels)
    samples = raster.samples
    if raster.palette is not None:
        samples = raster.palette[samples]
    elif samples.dtype == bool:
        samples = samples.astype(np.uint8) * np.uint8(255)
    if raster.grey_with_alpha and raster.format == "PNG" and raster.bits == 16:
        raise InputError(
            f"{path}: is a PNG of 16-bit grey with alpha, of which 8 bits can be read; save it without alpha"
        )
    if samples.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{path}: holds {samples.dtype} values; expected 8 or 16 bits a sample, unsigned; convert it first"
        )
    if samples.ndim == 3 and samples.shape[2] in ((2, 4) if raster.grey_with_alpha else (4,)):
        samples = samples[..., :-1]
    if samples.ndim == 3 and samples.shape[2] not in (1, 3):
        raise _other_channels(path, samples.shape[2])
    if samples.dtype == np.uint16:
        samples = _stretch(samples)
    if raster.white_is_zero:
        samples = 255 - samples
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.shape[2] == 1:
        samples = np.repeat(samples, 3, axis=2)
    return np.ascontiguousarray(_upright(samples, raster.orientation), dtype=np.uint8)


def _other_channels(path: str | os.PathLike[str], channels: int) -> InputError:
    found = "2 channels, and the second is not marked as alpha" if channels == 2 else f"{channels} channels"
    return InputError(f"{path}: has {found}; expected grey or RGB, perhaps with alpha; choose one or three of them")


def _stretch(samples: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Map percentiles 0.1 to 99.9 to 0..255; the extremes where those are one value."""
    below = np.cumsum(np.bincount(samples.ravel(), minlength=2**16))
    low, high = (int(np.searchsorted(below, fraction * below[-1])) for fraction in (0.001, 0.999))
    if low == high:
        low, high = int(samples.min()), int(samples.max())
    values = (np.arange(2**16, dtype=np.float64) - low) * (255 / max(high - low, 1))
    table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    stretched: NDArray[np.uint8] = table[samples]
    return stretched


def _upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror as EXIF orientation 1..8 says (CIPA DC-008, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def read_raster(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Raster:
    """Read what a file holds, unchanged: the shared first half of `read_image` and `read_label_image`.

    Args:
        path: a PNG, JPEG, BMP or TIFF file of one page.
        max_pixels: the largest allowed width * height, checked before the pixels are decoded.

    Raises:
        InputError: the file is missing, empty, damaged, too large, or of another kind.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_png(Path(folder) / "deep.png", np.full((2, 3), 7, np.uint16))
    ...     raster = read_raster(Path(folder) / "deep.png")
    >>> raster.format, raster.samples.shape, raster.bits
    ('PNG', (2, 3), 16)
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; expected an image file ({_KINDS}); name a file inside it")
        with open(path, "rb") as file:
            head = file.read(32)
            if not head:
                raise InputError(f"{path}: is empty; expected an image file ({_KINDS}); copy it here again")
            file.seek(0)
            try:
                return _decode(file, head, path, max_pixels)
            except InputError:
                raise
            # Decoders meet damaged bytes with every exception there is, from IndexError to zlib.error.
            except Exception as error:
                raise InputError(
                    f"{path}: is damaged or cut off ({_one_line(error)}); expected a whole image file; copy or export "
                    "it again"
                ) from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected an image ({_KINDS}); check the path") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be opened ({_one_line(error)}); check the path and its permissions") from error


def _one_line(error: Exception) -> str:
    """The cause, short enough for the middle of a sentence."""
    text = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
    text = " ".join(text.split())
    return text if len(text) <= 100 else text[:97] + "..."


def _check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise InputError(f"{path}: has {width}x{height} pixels; expected at least one; export it again")
    if width * height > max_pixels:
        raise InputError(
            f"{path}: has {width}x{height} pixels, {width * height:,} in all; expected at most {max_pixels:,}; cut it "
            "into parts or make it smaller"
        )


def _decode(file: IO[bytes], head: bytes, path: Path, max_pixels: int) -> Raster:
    # Pillow's plug-ins are called directly: Image.open would warn or fail at a size of its own (89 megapixels), and the
    # only way to move that bound is a global variable. It would also take some cameras' JPEGs for a list of pictures.
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        bits, color_type = (head[24], head[25]) if len(head) > 25 else (8, 0)
        raster = _from_pillow(PngImagePlugin.PngImageFile(file), "PNG", bits, path, max_pixels)
        return dataclasses.replace(raster, grey_with_alpha=color_type == 4)
    if head.startswith(b"\xff\xd8\xff"):
        return _from_pillow(JpegImagePlugin.JpegImageFile(file), "JPEG", 8, path, max_pixels)
    if head.startswith(b"BM"):
        return _from_pillow(BmpImagePlugin.BmpImageFile(file), "BMP", 8, path, max_pixels)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _from_tiff(file, path, max_pixels)
    raise InputError(f"{path}: is not an image of a known kind; expected {_KINDS}; convert it first")


def _from_pillow(image: ImageFile.ImageFile, format: str, bits: int, path: Path, max_pixels: int) -> Raster:
    with image:
        _check_size(path, *image.size, max_pixels)
        orientation = 1
        if format == "JPEG":
            # A picture is still a picture when its notes are damaged.
            with contextlib.suppress(OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, struct.error):
                orientation = int(image.getexif().get(0x0112, 1))
        image.load()
        flat: Image.Image = image if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "F") else _plain(image)
        palette = None
        if flat.mode == "P":
            colors = np.asarray(flat.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
            palette = np.zeros((256, 3), dtype=np.uint8)
            palette[: len(colors)] = colors
        samples = np.array(flat)
    if flat.mode == "I" and format == "PNG":
        # Pillow before 11 gives 16-bit grey as 32-bit integers.
        samples = samples.astype(np.uint16)
    return Raster(samples, palette, format, bits, orientation if 1 <= orientation <= 8 else 1, lossy=format == "JPEG")


def _plain(image: Image.Image) -> Image.Image:
    """Sixteen bits stay, big-endian or not; CMYK and other colour spaces become RGB, PA its indices."""
    if image.mode.startswith("I;16"):
        return image
    return image.convert("RGB")


def _from_tiff(file: IO[bytes], path: Path, max_pixels: int) -> Raster:
    with tifffile.TiffFile(file) as tiff:
        series = tiff.series
        if not series:
            raise InputError(f"{path}: holds no picture; expected a TIFF of one page; export it again")
        first, page = series[0], series[0].keyframe
        _check_size(path, page.imagewidth, page.imagelength, max_pixels)
        axes = "".join(axis for axis, size in zip(first.axes, first.shape) if size > 1 or axis in "YXS")
        if len(series) > 1 or axes not in ("YX", "YXS", "SYX"):
            size = " x ".join(f"{axis} {size}" for axis, size in zip(first.axes, first.shape))
            found = f"{len(tiff.pages)} pages" if len(tiff.pages) > 1 else f"axes {size}"
            raise InputError(
                f"{path}: holds more than one picture ({found}); expected one page, grey or RGB; save each page, or a "
                "projection, as a file of its own"
            )
        end = tiff.filehandle.size
        if any(start + length > end for start, length in zip(page.dataoffsets, page.databytecounts)):
            raise InputError(f"{path}: is cut off; expected a whole TIFF file; copy it here again")
        photometric = tifffile.PHOTOMETRIC(page.photometric)
        white_is_zero = photometric == tifffile.PHOTOMETRIC.MINISWHITE
        rgb_or_grey = tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.PALETTE
        channels = dict(zip(first.axes, first.shape)).get("S", 1)
        # Now, as hundreds of channels of one value are a small file and a lot of memory.
        if channels > _MOST_CHANNELS and (photometric in rgb_or_grey or white_is_zero):
            raise _other_channels(path, channels)
        alpha = tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA
        grey_with_alpha = channels == 2 and page.extrasamples in [(kind,) for kind in alpha]
        bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
        lossy = any(word in tifffile.COMPRESSION(page.compression).name for word in ("JPEG", "WEBP"))
        try:
            if photometric not in rgb_or_grey and not white_is_zero:
                raise ValueError(f"the colour space {photometric.name} is not supported")
            samples = first.asarray()
        except NotImplementedError as error:
            raise InputError(
                f"{path}: has values of {bits} bits, packed; expected 8 or 16 bits a sample; save it so"
            ) from error
        except ValueError as error:
            # tifffile needs a further package for LZW and JPEG; Pillow brings its own decoders.
            if white_is_zero or (bits > 8 and page.samplesperpixel > 1):
                raise InputError(
                    f"{path}: can't be decoded ({_one_line(error)}); expected a TIFF without compression, or with "
                    "deflate; save it so"
                ) from error
            if channels == 2 and not grey_with_alpha:
                raise _other_channels(path, channels) from error  # Pillow would read the first
            # Of this kind Pillow alone refuses what is twice its bound, and warns from the bound on.
            bound = 2 * (Image.MAX_IMAGE_PIXELS or max_pixels)
            _check_size(path, page.imagewidth, page.imagelength, min(bound, max_pixels))
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                raster = _from_pillow(TiffImagePlugin.TiffImageFile(file), "TIFF", bits, path, max_pixels)
            # Pillow turns TIFFs by their orientation, tifffile doesn't: turn back, so that compression changes nothing.
            orientation = page.tags.valueof(274, 1)
            samples = _upright(raster.samples, {6: 8, 8: 6}.get(orientation, orientation))
            return dataclasses.replace(raster, samples=samples, lossy=lossy, grey_with_alpha=grey_with_alpha)
        samples = samples.reshape([size for axis, size in zip(first.axes, first.shape) if size > 1 or axis in "YXS"])
        if axes == "SYX":
            samples = np.moveaxis(samples, 0, -1)
        palette = None
        if photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
            palette = (np.asarray(page.colormap).T >> 8).astype(np.uint8)
        return Raster(
            samples,
            palette,
            "TIFF",
            bits,
            white_is_zero=white_is_zero,
            lossy=lossy,
            grey_with_alpha=grey_with_alpha,
        )


def write_png(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write a PNG, whole or not at all.

    Args:
        path: the file; its folder must exist.
        array: HxW uint8 or uint16 (grey), or HxWx3 uint8 (RGB), of at least one pixel.

    Raises:
        OutputError: the place can't be written, see `panembed.io.atomic.atomic_path`.
        ValueError: another shape or dtype.

    >>> write_png("a.png", np.zeros((2, 2)))
    Traceback (most recent call last):
    ValueError: expected HxW uint8 or uint16 or HxWx3 uint8, found float64 (2, 2)
    """
    array = np.asarray(array)
    grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    color = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if not (grey or color) or array.size == 0:
        raise ValueError(f"expected HxW uint8 or uint16 or HxWx3 uint8, found {array.dtype} {array.shape}")
    image = Image.fromarray(np.ascontiguousarray(array))
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", **PNG_EFFORT)


def find_images(inputs: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """List the image files that `inputs` name.

    Args:
        inputs: files, taken whatever their suffix, and folders, whose files with one of `IMAGE_SUFFIXES` are taken.
            Sub-folders and hidden files are not looked at.

    Returns:
        Paths, sorted, each once.

    Raises:
        InputError: one of `inputs` doesn't exist, a folder holds no images, or there are no inputs.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.TIF", "a.png", "notes.txt"):
    ...         (Path(folder) / name).touch()
    ...     [path.name for path in find_images([folder])]
    ['a.png', 'b.TIF']
    """
    found: dict[str, Path] = {}
    given = [Path(item) for item in inputs]
    if not given:
        raise InputError("no images given; expected at least one file or folder")
    for path in given:
        if path.is_dir():
            inside = images_in(path)
            if not inside:
                raise InputError(
                    f"{path}: holds no images; expected files ending in {', '.join(IMAGE_SUFFIXES)} directly inside it"
                )
        elif path.is_file():
            inside = [path]
        else:
            raise InputError(f"{path}: no such file or folder; check the path")
        for file in inside:
            # Links are files of their own: they may have names that the user chose.
            found.setdefault(os.path.abspath(file), file)
    return sorted(found.values())


def images_in(folder: Path) -> list[Path]:
    """Files directly in `folder` with one of `IMAGE_SUFFIXES`, sorted, without hidden ones; perhaps none.

    >>> images_in(Path(__file__).parent)
    []
    """
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: can't be listed ({_one_line(error)}); expected a folder of images") from error
    return [p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()]


def left_aside(inputs: Iterable[Path]) -> list[Path]:
    """Files directly in the folders among `inputs` that are none of `IMAGE_SUFFIXES`, sorted, without hidden ones.

    >>> [path.name for path in left_aside([Path(__file__).parent]) if path.stem == "images"]
    ['images.py']
    """
    folders = [path for path in inputs if path.is_dir()]
    inside = {file for folder in folders for file in folder.iterdir() if file.is_file()}
    return sorted(p for p in inside if p.suffix.lower() not in IMAGE_SUFFIXES and not p.name.startswith("."))
