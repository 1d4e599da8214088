"""What the JSON files of COCO share: reading them, checking their rows, and finding the photographs that they name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from panembed.errors import InputError, SettingsError
from panembed.labels.categories import LabelSet

JSON_FOLDERS = ("", "annotations")
"""Where a JSON may lie in its data set."""

# data/ is FiftyOne's.
_IMAGE_FOLDERS = ("", "images", "input_images", "data")
_SNIFF_BYTES = 2**28


def read_json(path: Path, what: str) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.
        what: it should hold, for errors.

    Raises:
        InputError: it is missing, can't be read, or isn't JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected {what}; check the path") from error
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        cause = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: is not valid JSON ({cause}); expected {what}; export it again") from error


def mentions(path: Path, words: Sequence[str]) -> set[str]:
    """Those of some keys that a JSON file holds somewhere, in quotes; it is not parsed, and a strange file holds none.

    >>> mentions(Path("/no/such/file"), ["shapes"])
    set()
    """
    needles = {f'"{word}"'.encode(): word for word in words}
    longest = max(map(len, needles))
    found: set[str] = set()
    try:
        with open(path, "rb") as file:
            rest, read = b"", 0
            while len(found) < len(needles) and read < _SNIFF_BYTES and (block := file.read(2**20)):
                found |= {word for needle, word in needles.items() if needle in rest + block}
                rest, read = block[-longest:], read + len(block)
    except OSError:
        pass
    return found


def photograph_folders(
    root: Path, json_path: Path, named: str | os.PathLike[str] | None, prefix: str, without: Path | None = None
) -> list[Path]:
    """Where photographs are looked for, in this order.

    Args:
        root: the data set's folder.
        json_path: its JSON.
        named: the folder below `root` that the user names; then that alone.
        prefix: that the JSON's name has before that of the photographs' folder, such as `instances_`.
        without: a folder of other pictures.

    Raises:
        InputError: the folder that is named doesn't exist.
    """
    if named is not None:
        if not (root / named).is_dir():
            raise InputError(f"{root / named}: no such folder; expected the photographs in it")
        return [root / named]
    stem = json_path.stem.removeprefix(prefix)
    # CVAT has images/train/ for instances_train.json.
    places = [*(root / name for name in (*_IMAGE_FOLDERS, stem, f"images/{stem}")), json_path.parent]
    # Photographs that are PNGs have the names of their segmentations, which must not be taken for them.
    return [place for place in dict.fromkeys(places) if place != without]


def holds(path: Path, listed: dict[Path, set[str]]) -> bool:
    """Is there such a file? A folder is listed once, since a data set may have 100,000 images."""
    folder = path.parent
    if folder not in listed:
        try:
            listed[folder] = {entry.name for entry in os.scandir(folder)}
        except (OSError, ValueError):
            listed[folder] = set()
    return path.name in listed[folder]


def inside(source: Path, name: str) -> PurePosixPath:
    """A name from a JSON, if it can only lead into the folder that it is meant for.

    >>> inside(Path("a.json"), "../secret.png")
    Traceback (most recent call last):
    panembed.errors.InputError: a.json: the file_name '../secret.png' leads out of the data; expected a name inside ...
    """
    path, foreign = PurePosixPath(name), PureWindowsPath(name)
    outside = path.is_absolute() or foreign.drive or foreign.root or ".." in path.parts or ".." in foreign.parts
    if outside or not path.name or any(ord(letter) < 32 for letter in name):
        raise InputError(
            f"{source}: the file_name {name[:80]!r} leads out of the data; expected a name inside the folder, without "
            "'..'; mend the JSON"
        )
    return path


def rows_of(path: Path, data: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """The rows of one part of a JSON; InputError where it is missing or no list of objects."""
    if part not in data:
        raise InputError(f"{path}: has no {part}; expected the keys images, annotations and categories")
    rows = data[part]
    if not isinstance(rows, list):
        raise InputError(f"{path}: {part} is {kind(rows)}; expected a list")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{path}: {part}[{number}] is {kind(row)}; expected an object with keys")
    return rows


def categories_of(path: Path, rows: list[dict[str, Any]]) -> LabelSet:
    """The classes that `categories` lists, with id, name and isthing; InputError where a value is wrong."""
    for number, row in enumerate(rows):
        where = f"categories[{number}]"
        for key in ("id", "name", "isthing"):
            if key not in row:
                raise InputError(f"{path}: {where} has no {key}; expected id, name, isthing and perhaps color")
        if not is_int(row["id"]):
            raise InputError(f"{path}: {where}.id is {kind(row['id'])}; expected a whole number 0..65534")
        if not isinstance(row["name"], str) or not row["name"]:
            raise InputError(f"{path}: {where}.name is {kind(row['name'])}; expected a text")
        if row["isthing"] not in (0, 1):
            raise InputError(f"{path}: {where}.isthing is {kind(row['isthing'])}; expected 0 or 1")
        color = row.get("color")
        if color is not None and not (
            isinstance(color, list) and len(color) == 3 and all(is_int(c) and 0 <= c <= 255 for c in color)
        ):
            raise InputError(f"{path}: {where}.color is {kind(color)}; expected [r, g, b], 0..255 each")
    try:
        return LabelSet.from_list(rows)
    except SettingsError as error:
        raise InputError(f"{path}: {error}") from error


def image_key(path: Path, where: str, key: str, row: Mapping[str, Any]) -> str:
    """The id of an image as text; InputError where it is neither a whole number nor a text."""
    value = row.get(key)
    if not (is_int(value) or (isinstance(value, str) and value)):
        raise InputError(f"{path}: {where}.{key} is {kind(value)}; expected a whole number or a text")
    return str(value)


def check_file_name(path: Path, where: str, row: Mapping[str, Any]) -> None:
    """InputError where there is no text under `file_name`."""
    if not isinstance(row.get("file_name"), str):
        raise InputError(f"{path}: {where}.file_name is {kind(row.get('file_name'))}; expected a text")


def is_int(value: Any) -> bool:
    """Is it a whole number, and no truth value?"""
    return isinstance(value, int) and not isinstance(value, bool)


def kind(value: Any) -> str:
    """What a value is, for errors, in some letters."""
    return (
        "nothing" if value is None else f"{value!r:.60}" if isinstance(value, (str, int, float)) else str(type(value))
    )
