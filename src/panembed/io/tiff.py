"""TIFF files of this field: what their pages are, and their numbers to the digit, whatever the compression."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from panembed.errors import InputError
from panembed.io.raster import Raster, check_size, from_pillow, one_line, upright

# What tifffile logs of odd files is for its developers; without a handler Python would print it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_MOST_CHANNELS = 64
"""Far above what microscopes and multispectral cameras write; hundreds of channels of one value are a small file and a
lot of memory."""

_PLAIN = (
    tifffile.PHOTOMETRIC.MINISBLACK,
    tifffile.PHOTOMETRIC.MINISWHITE,
    tifffile.PHOTOMETRIC.RGB,
    tifffile.PHOTOMETRIC.PALETTE,
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Stack:
    """Pages of one size that make a picture, and the axes of their values; the first page describes all."""

    page: tifffile.TiffPage
    pages: list[Any]
    axes: str
    shape: tuple[int, ...]
    series: tifffile.TiffPageSeries | None


def read_tiff(file: IO[bytes], path: Path, max_pixels: int, pages: bool) -> Raster:
    """Read a TIFF of one picture, perhaps with channels in pages of their own.

    Args:
        file: open at its start.
        path: its name, for errors.
        max_pixels: the largest allowed width * height.
        pages: take pages that the file doesn't explain for channels.

    Raises:
        InputError: it holds more than one picture, is cut off, too large, or can't be decoded.
    """
    with tifffile.TiffFile(file) as tiff:
        stack = _stack(tiff, path)
        page = stack.page
        check_size(path, page.imagewidth, page.imagelength, max_pixels)
        axes = "".join(axis for axis, size in zip(stack.axes, stack.shape) if size > 1 or axis in "YXS")
        extra = axes.replace("Y", "").replace("X", "")
        separate = extra == "C" or (pages and extra in ("I", "Q"))
        if not separate and extra not in ("", "S"):
            raise _several(path, tiff, stack, extra)
        channels = next((size for axis, size in zip(stack.axes, stack.shape) if axis == extra), 1) if extra else 1
        if channels > _MOST_CHANNELS:
            raise InputError(
                f"{path}: has {channels} channels; expected grey or RGB, perhaps with alpha, or at most "
                f"{_MOST_CHANNELS} channels; save those that are needed"
            )
        check_size(path, page.imagewidth * max(1, channels // 4), page.imagelength, max_pixels)
        end = tiff.filehandle.size
        if any(start + length > end for p in stack.pages for start, length in zip(p.dataoffsets, p.databytecounts)):
            raise InputError(f"{path}: is cut off; expected a whole TIFF file; copy it here again")
        names = _names(tiff) if channels > 1 else ()
        return _read(file, path, max_pixels, stack, axes, separate, names)


def _stack(tiff: tifffile.TiffFile, path: Path) -> _Stack:
    """The first series of pages, and an error where there are more."""
    series = tiff.series
    if not series:
        raise InputError(f"{path}: holds no picture; expected a TIFF of one page; export it again")
    first = series[0]
    missing = any(page is None for page in first.pages)
    own = len(tiff.pages)
    if missing and own == 1:
        # The description is of a set whose other pages lie in files of their own.
        page = tiff.pages.first
        return _Stack(page, [page], page.axes, page.shape, None)
    if missing:
        raise InputError(
            f"{path}: holds {own} pages of a set of {len(first.pages)}, whose others lie in further files; expected "
            "one page, grey or RGB; save each page, or a projection, as a file of its own"
        )
    if len(series) > 1:
        raise _several(path, tiff, _Stack(first.keyframe, [], first.axes, first.shape, first), "")
    return _Stack(first.keyframe, list(first.pages[: _MOST_CHANNELS + 1]), first.axes, first.shape, first)


def _several(path: Path, tiff: tifffile.TiffFile, stack: _Stack, extra: str) -> InputError:
    size = " x ".join(f"{axis} {size}" for axis, size in zip(stack.axes, stack.shape))
    found = f"{len(tiff.pages)} pages" if len(tiff.pages) > 1 else f"axes {size}"
    kinds = {"Z": "planes of a stack", "T": "times"}
    if len(extra) == 1 and extra in kinds:
        found += f", {kinds[extra]}"
    choose = "; if its pages are channels, choose one with --channel N" if extra in ("I", "Q") else ""
    return InputError(
        f"{path}: holds more than one picture ({found}); expected one page, grey or RGB; save each page, or a "
        f"projection, as a file of its own{choose}"
    )


def _read(
    file: IO[bytes], path: Path, max_pixels: int, stack: _Stack, axes: str, separate: bool, names: tuple[str, ...]
) -> Raster:
    page = stack.page
    photometric = tifffile.PHOTOMETRIC(page.photometric)
    alpha = tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA
    bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    raster = Raster(
        np.empty((0, 0), np.uint8),
        None,
        "TIFF",
        bits,
        white_is_zero=photometric == tifffile.PHOTOMETRIC.MINISWHITE,
        lossy=any(word in tifffile.COMPRESSION(page.compression).name for word in ("JPEG", "WEBP")),
        grey_with_alpha=not separate and page.extrasamples in [(kind,) for kind in alpha] and page.samplesperpixel == 2,
        separate=separate or (page.samplesperpixel > 3 and photometric == tifffile.PHOTOMETRIC.MINISBLACK),
        names=names,
    )
    if photometric not in _PLAIN:
        return _by_pillow(file, path, max_pixels, page, raster, f"the colour space {photometric.name}")
    try:
        samples = page.asarray() if stack.series is None else stack.series.asarray()
    except NotImplementedError as error:
        raise InputError(
            f"{path}: has values of {bits} bits, packed; expected 8 or 16 bits a sample; save it so"
        ) from error
    except ValueError as error:
        return _by_pillow(file, path, max_pixels, page, raster, one_line(error))
    samples = samples.reshape([n for axis, n in zip(stack.axes, stack.shape) if n > 1 or axis in "YXS"])
    if len(axes) == 3:
        samples = np.moveaxis(samples, next(place for place, axis in enumerate(axes) if axis not in "YX"), -1)
    palette = None
    if photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None and not separate:
        palette = (np.asarray(page.colormap).T >> 8).astype(np.uint8)
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    return dataclasses.replace(raster, samples=samples, palette=palette)


def _by_pillow(
    file: IO[bytes], path: Path, max_pixels: int, page: tifffile.TiffPage, raster: Raster, why: str
) -> Raster:
    """Colour spaces and compressions that tifffile leaves to others."""
    if raster.white_is_zero or raster.separate or (raster.bits > 8 and page.samplesperpixel > 1):
        raise InputError(
            f"{path}: can't be decoded ({why}); expected grey or RGB without compression, or with deflate or LZW; "
            "save it so"
        )
    # Of this kind Pillow alone refuses what is twice its bound, and warns from the bound on.
    bound = 2 * (Image.MAX_IMAGE_PIXELS or max_pixels)
    check_size(path, page.imagewidth, page.imagelength, min(bound, max_pixels))
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        read = from_pillow(TiffImagePlugin.TiffImageFile(file), "TIFF", raster.bits, path, max_pixels)
    # Pillow turns TIFFs by their orientation, tifffile doesn't: turn back, so that compression changes nothing.
    orientation = page.tags.valueof(274, 1)
    samples: NDArray[Any] = upright(read.samples, {6: 8, 8: 6}.get(orientation, orientation))
    return dataclasses.replace(raster, samples=samples, palette=read.palette)


def _names(tiff: tifffile.TiffFile) -> tuple[str, ...]:
    """Names of the channels, as OME or ImageJ tell them."""
    with contextlib.suppress(Exception):
        if tiff.is_ome:
            root = ElementTree.fromstring(tiff.ome_metadata or "")  # noqa: S314
            pixels = next(node for node in root.iter() if node.tag.endswith("}Pixels"))
            return tuple(
                node.get("Name") or node.get("Fluor") or "" for node in pixels if node.tag.endswith("}Channel")
            )
        if tiff.is_imagej:
            return tuple(str(name).partition("\n")[0] for name in (tiff.imagej_metadata or {}).get("Labels", ()))
    return ()
