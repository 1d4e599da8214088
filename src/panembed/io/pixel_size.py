"""How large a pixel is: what users give, and what microscopes and ImageJ write into TIFFs."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from panembed.errors import InputError, SettingsError

_METRES = {"nm": 1e-9, "um": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}
_MICRO = (
    "\u00b5m",
    "\u03bcm",
    "\\u00b5m",
    "micron",
    "microns",
    "micrometer",
    "micrometre",
    "micrometers",
    "micrometres",
)
_ALIASES = {
    **dict.fromkeys(_MICRO, "um"),
    **dict.fromkeys(("nanometer", "nanometre", "nanometers", "nanometres"), "nm"),
    **dict.fromkeys(("millimeter", "millimetre", "millimeters", "millimetres"), "mm"),
    **dict.fromkeys(("centimeter", "centimetre", "centimeters", "centimetres"), "cm"),
    **dict.fromkeys(("meter", "metre", "meters", "metres"), "m"),
}
_INCH, _INCH_IN_MM = ("in", "inch", "inches", '"'), 25.4

_NOT_SQUARE = 0.01
"""So much, of its length, a pixel's width and height may differ."""

_OF_PRINTERS = (72, 96, 100, 120, 150, 180, 200, 240, 254, 266, 300, 314, 350, 360, 400, 600, 720, 1200, 2400)
"""Pixels an inch that cameras, programs and scanners write without having measured anything."""

_IMAGEJ, _PIXELS = "ImageJ=", re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
_RESOLUTION_UNITS = {2: "inch", 3: "cm"}


@dataclass(frozen=True, slots=True)
class PixelSize:
    """The side of a square pixel.

    Attributes:
        length: above 0.
        unit: nm, um, mm, cm or m; "" where the user gave none.

    >>> PixelSize(0.25, "mm").to("um")
    PixelSize(length=250.0, unit='um')
    """

    length: float
    unit: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.length < math.inf:
            raise ValueError(f"pixel size is {self.length}; expected a length above 0")
        if self.unit and self.unit not in _METRES:
            raise ValueError(f"unit is {self.unit!r}; expected {', '.join(_METRES)}")

    def __str__(self) -> str:
        return f"{self.length:.6g} {self.unit}".strip()

    def to(self, unit: str) -> PixelSize:
        """The same length in another unit; a length without one is taken to be in that unit."""
        if not self.unit or self.unit == unit:
            return PixelSize(self.length, unit)
        return PixelSize(float(f"{self.length * (_METRES[self.unit] / _METRES[unit]):.12g}"), unit)


def parse_unit(text: str) -> str:
    """A unit of length as columns name it.

    Raises:
        SettingsError: no unit that is known.

    >>> parse_unit("µm"), parse_unit("Millimeter")
    ('um', 'mm')
    """
    name = _known_unit(text)
    if name is None or name == "inch":
        raise SettingsError(f"unit {text!r} is unknown; expected {', '.join(_METRES)}")
    return name


def _known_unit(text: str) -> str | None:
    name = text.strip().lower()
    if name in _INCH:
        return "inch"
    name = _ALIASES.get(name, name)
    return name if name in _METRES else None


def parse_pixel_size(text: str) -> PixelSize:
    """A pixel's side from text: a number, perhaps with a unit.

    Raises:
        SettingsError: no number above 0, or an unknown unit.

    >>> parse_pixel_size("0.25"), parse_pixel_size("0.25 µm")
    (PixelSize(length=0.25, unit=''), PixelSize(length=0.25, unit='um'))
    """
    found = re.fullmatch(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?|[-+]?\d+,\d+)\s*(\D*)", text)
    length = math.nan
    if found:
        with contextlib.suppress(ValueError):
            length = float(found[1].replace(",", "."))
    if found is None or not 0 < length < math.inf:
        raise SettingsError(
            f"pixel size {text!r}: expected a length above 0, perhaps with its unit, such as 0.25um or 0.1mm"
        )
    if _known_unit(found[2]) == "inch":
        return PixelSize(length * _INCH_IN_MM, "mm")
    return PixelSize(length, parse_unit(found[2]) if found[2].strip() else "")


@dataclass(frozen=True, slots=True)
class TagScale:
    """What a file says of its scale.

    Attributes:
        pixel_size: None where it says nothing that can be believed.
        source: what said so: ImageJ, OME, or resolution.
        note: why a number that is there is not taken; "" where nothing needs to be said.
    """

    pixel_size: PixelSize | None
    source: str = ""
    note: str = ""


def read_pixel_size(path: str | os.PathLike[str]) -> TagScale:
    """Read the size of a pixel from a TIFF's tags.

    - ImageJ's unit with the resolution, and OME's PhysicalSizeX, are taken.
    - A resolution alone, in pixels an inch or centimetre, is taken unless it is one that cameras, programs and scanners
      write by habit, such as 72 or 300 an inch: these are for printers, and a note says so.
    - PNG and JPEG have such resolutions only, and are not looked at.
    - Pixels that aren't square have no one size.

    Args:
        path: any file; one that can't be read says nothing, as reading it as an image will tell why.

    >>> read_pixel_size("no such file")
    TagScale(pixel_size=None, source='', note='')
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return TagScale(None)
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            description, tags = getattr(page, "description", ""), getattr(page, "tags", {})
            x, y = (tags.get(name) for name in ("XResolution", "YResolution"))
            per_unit = (_ratio(x), _ratio(y))
            unit_code = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    except Exception:  # decoders meet damaged bytes with every exception there is; what matters is told on reading it
        return TagScale(None)
    if found := _PIXELS.search(description[:1_000_000]):
        return _from_ome(found[0])
    if description.startswith(_IMAGEJ):
        said = dict(line.partition("=")[::2] for line in description.splitlines())
        return _square("ImageJ", [1 / n if n else math.nan for n in per_unit], said.get("unit", "").strip())
    return _from_resolution(per_unit, unit_code)


def _ratio(tag: Any) -> float:
    """Of a tag that holds a fraction; 0 where there is none."""
    if tag is None:
        return 0.0
    numerator, denominator = tag.value
    return float(numerator) / float(denominator) if denominator else 0.0


def _from_ome(element: str) -> TagScale:
    said = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', element))
    lengths = []
    for axis in "XY":
        try:
            lengths.append(float(said[f"PhysicalSize{axis}"]))
        except (KeyError, ValueError):
            return TagScale(None)
    units = [said.get(f"PhysicalSize{axis}Unit", "um").replace("&#181;", "\u00b5") for axis in "XY"]
    if units[0] != units[1]:
        return TagScale(None, note=f"OME gives a pixel's width in {units[0]}, its height in {units[1]}")
    return _square("OME", lengths, units[0])


def _from_resolution(per_unit: tuple[float, float], unit_code: int) -> TagScale:
    name = _RESOLUTION_UNITS.get(unit_code)
    if name is None or not all(per_unit):
        return TagScale(None)
    per_inch = per_unit[0] * (1 if name == "inch" else _INCH_IN_MM / 10)
    if per_inch < min(_OF_PRINTERS) or any(abs(per_inch - usual) < 0.5 for usual in _OF_PRINTERS):
        if per_inch <= 1.5:
            return TagScale(None)
        millimetres = _INCH_IN_MM / per_inch
        return TagScale(
            None,
            note=f"its resolution of {per_inch:.4g} pixels an inch is for printing and not taken as a scale; if a "
            f"scanner measured it, give --pixel-size {millimetres:.4g}mm",
        )
    return _square("resolution", [1 / n for n in per_unit], name)


def _square(source: str, lengths: list[float], unit: str) -> TagScale:
    known = _known_unit(unit)
    if known is None or not all(0 < length < math.inf for length in lengths):
        return TagScale(None)
    width, height = lengths
    if abs(width - height) > _NOT_SQUARE * max(lengths):
        return TagScale(
            None, note=f"its pixels are {width:.4g} x {height:.4g} {unit}, which is no square, so no scale is taken"
        )
    if known == "inch":
        return TagScale(PixelSize(float(f"{width * _INCH_IN_MM:.9g}"), "mm"), source)
    # Tags hold fractions of 32-bit numbers: further digits are noise.
    return TagScale(PixelSize(float(f"{width:.7g}"), known), source)


def read_pixel_sizes(path: Path) -> Callable[[Path], PixelSize | None]:
    """A table with one pixel size an image: columns `file` and `pixel_size`, perhaps `unit`.

    Columns are separated by commas, semicolons or tabs; files are named with or without folder.

    Returns:
        A function that gives the size for an image, None where the table lacks it.

    Raises:
        InputError: the table can't be read, lacks a column, or holds something that is no size, or a file twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read as a table ({type(error).__name__}); expected CSV in UTF-8") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    table = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    columns = [str(name).strip().lower() for name in table.fieldnames or []]
    if not {"file", "pixel_size"} <= set(columns):
        raise InputError(
            f"{path}: has columns {', '.join(columns) or 'none'}; expected file and pixel_size, perhaps unit"
        )
    table.fieldnames = columns
    sizes: dict[str, PixelSize] = {}
    for line, row in enumerate(table, start=2):
        name = (row["file"] or "").strip()
        try:
            size = parse_pixel_size(f"{(row['pixel_size'] or '').strip()} {(row.get('unit') or '').strip()}")
        except SettingsError as error:
            raise InputError(f"{path}, line {line}: {error}") from None
        if sizes.setdefault(name, size) != size:
            raise InputError(f"{path}, line {line}: {name} has another pixel size above; expected one for each image")

    def find(image: Path) -> PixelSize | None:
        return next((sizes[name] for name in (str(image), image.name, image.stem) if name in sizes), None)

    return find
