"""Which pixel size holds for which image of a call: what the user gave, or what the files say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from panembed.errors import SettingsError
from panembed.io.pixel_size import PixelSize, parse_pixel_size, parse_unit, read_pixel_size, read_pixel_sizes

NO_SCALE = "none"
"""What --pixel-size is given for no scale, whatever the files say."""


@dataclass(frozen=True, slots=True)
class PixelScales:
    """The size of a pixel for each image.

    Attributes:
        of: gives it for a file, or None.
        notes: what the user should know of where they come from.
    """

    of: Callable[[Path], PixelSize | None]
    notes: tuple[str, ...] = ()


def choose_scales(files: Sequence[Path], given: str | None = None, unit: str | None = None) -> PixelScales:
    """Find the pixel sizes of files.

    Args:
        files: images.
        given: a length, perhaps with its unit; a CSV with a size for each image; "none"; or None for what the files
            say, see `panembed.io.pixel_size.read_pixel_size`.
        unit: of a length that has none; any other length is converted to it.

    Raises:
        SettingsError: not a length, or an unknown unit, or a unit for nothing.
        InputError: the CSV can't be used.

    >>> choose_scales([], "0.25mm", "um").of(Path("a.png"))
    PixelSize(length=250.0, unit='um')
    """
    wanted = None if unit is None else parse_unit(unit)
    if given is None:
        return _from_tags(files, wanted)
    if given.strip().lower() == NO_SCALE:
        if unit is not None:
            raise SettingsError("--unit has no effect with --pixel-size none; leave it out")
        return PixelScales(lambda path: None)
    if Path(given).suffix.lower() in (".csv", ".tsv", ".txt"):
        return _from_table(files, Path(given), wanted)
    try:
        size = parse_pixel_size(given)
    except SettingsError as error:
        raise SettingsError(f"--pixel-size: {error}, a CSV with the columns file and pixel_size, or none") from None
    size = size if wanted is None else size.to(wanted)
    return PixelScales(lambda path: size)


def _from_table(files: Sequence[Path], table: Path, wanted: str | None) -> PixelScales:
    find = read_pixel_sizes(table)
    sizes = {path: find(path) for path in files}
    missing = [path for path, size in sizes.items() if size is None]
    notes: tuple[str, ...] = ()
    if missing:
        notes = (f"{len(missing)} of {len(files)} images have no pixel size in {table}, {missing[0].name} among them",)
    return _in_one_unit(sizes, wanted, notes)


def _from_tags(files: Sequence[Path], wanted: str | None) -> PixelScales:
    found = {path: read_pixel_size(path) for path in files}
    sizes = {path: scale.pixel_size for path, scale in found.items()}
    known = [(path, scale) for path, scale in found.items() if scale.pixel_size is not None]
    notes = []
    if known:
        scales = _in_one_unit(sizes, wanted).of
        different = {str(scales(path)) for path, _ in known}
        told = different.pop() if len(different) == 1 else f"{len(different)} different ones"
        sources = " and ".join(sorted({scale.source for _, scale in known}))
        of = "" if len(known) == len(files) else f"of {len(known)} of {len(files)} images "
        notes.append(f"pixel size {of}from {sources} tags: {told} (another: --pixel-size; none: --pixel-size none)")
    elif wanted is not None:
        raise SettingsError("--unit: no image tells the size of its pixels; give it with --pixel-size")
    told_not = [(path, scale.note) for path, scale in found.items() if scale.note]
    if told_not:
        path, note = told_not[0]
        more = f" ({len(told_not) - 1} more like it)" if len(told_not) > 1 else ""
        notes.append(f"{path.name}: {note}{more}")
    return _in_one_unit(sizes, wanted, tuple(notes))


def _in_one_unit(sizes: dict[Path, PixelSize | None], wanted: str | None, notes: tuple[str, ...] = ()) -> PixelScales:
    """Columns of a table have one unit: the one that is asked for, or that of the first image."""
    unit = wanted or next((size.unit for size in sizes.values() if size is not None and size.unit), None)
    if unit is None:
        return PixelScales(sizes.get, notes)
    return PixelScales({path: None if size is None else size.to(unit) for path, size in sizes.items()}.get, notes)
