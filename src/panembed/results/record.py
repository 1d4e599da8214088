"""What `panembed predict` has done, in prediction.jsonl: a line for the call, and one for each image that is whole.

`predict --resume` goes on by it after the process was killed, and `panembed measure` finds what was edited since.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.errors import InputError, OutputError, SettingsError
from panembed.io.atomic import write_text
from panembed.io.pixel_size import PixelSize
from panembed.labels.categories import LabelSet
from panembed.results.result import PanopticResult

RECORD_FILE = "prediction.jsonl"
"""In the output folder of `panembed predict`."""

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """An image whose files are all there.

    Attributes:
        file: absolute path of the image.
        size: of that file, in bytes; -1 if it was gone.
        changed: when it was changed last, in nanoseconds.
        shape: height and width.
        segments: class index and instance id of each segment, in the order of segment ids.
        numbers: of its objects, as NAME_instances.png has them.
        scores: of its objects, None for one that was drawn by hand; None where nobody knows any.
        pixel_size: length and unit; None where it isn't known.
        remarks: kind and text of each.
        digests: of NAME_instances.png, NAME_semantic.png and panoptic/NAME.png, as `digest` gives them.
    """

    file: str
    size: int
    changed: int
    shape: tuple[int, int]
    segments: list[list[int]]
    numbers: list[int]
    scores: list[float | None] | None
    pixel_size: list[Any] | None
    remarks: list[list[str]]
    digests: dict[str, str]

    @classmethod
    def of(cls, path: Path, result: PanopticResult) -> Entry:
        """What is kept of the result for an image."""
        size, changed = _state(path)
        segment_map, segments = result.panoptic.segments(result.label_set)
        scale = result.pixel_size
        return cls(
            os.path.abspath(path),
            size,
            changed,
            result.panoptic.shape,
            [[segment.category, segment.instance] for segment in segments],
            list(result.numbers),
            None if result.scores is None else [None if np.isnan(score) else float(score) for score in result.scores],
            None if scale is None else [scale.length, scale.unit],
            [[remark.kind, remark.text] for remark in result.remarks],
            {
                "instances": digest(result.instance_ids()),
                "semantic": digest(result.class_ids()),
                "panoptic": digest(segment_map),
            },
        )

    def with_result_of(self, other: Entry) -> Entry:
        """The same image file, with another result."""
        return replace(other, file=self.file, size=self.size, changed=self.changed)

    @property
    def name(self) -> str:
        """Of the image, without folder and suffix."""
        return Path(self.file).stem

    def is_of(self, path: Path) -> bool:
        """Whether the file is still the one that was segmented."""
        return (self.size, self.changed) == _state(path)

    def scale(self) -> PixelSize | None:
        """The side of a pixel."""
        return None if self.pixel_size is None else PixelSize(*self.pixel_size)


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def digest(numbers: NDArray[Any]) -> str:
    """A short text that is the same for pictures of the same numbers only, whatever their type.

    >>> digest(np.array([[1, 2]], np.uint8)) == digest(np.array([[1, 2]], np.int32)) != digest(np.array([[1], [2]]))
    True
    """
    shape = " ".join(map(str, numbers.shape)).encode()
    return hashlib.blake2b(np.ascontiguousarray(numbers, dtype="<u4").tobytes(), digest_size=16, key=shape).hexdigest()


class PredictionRecord:
    """The record of a prediction folder.

    Args:
        folder: that exists.
        call: what the results depend on, plain data: the model, options, classes.
        entries: of the images so far, by their absolute paths.
    """

    def __init__(self, folder: Path, call: Mapping[str, Any], entries: Mapping[str, Entry] | None = None) -> None:
        self.folder = folder
        self.call = dict(call)
        self.entries = dict(entries or {})

    @classmethod
    def read(cls, folder: Path) -> PredictionRecord:
        """The record of a folder; a last line that was not written whole is left out.

        Raises:
            InputError: there is none, or it is damaged.
        """
        path = folder / RECORD_FILE
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise InputError(
                f"{folder}: holds no {RECORD_FILE}; expected a folder that `panembed predict` wrote; predict again"
            ) from error
        damaged = InputError(f"{path}: is damaged; expected what `panembed predict` wrote; predict again")
        try:
            call = json.loads(lines[0])
            if call["format"] != FORMAT:
                raise InputError(
                    f"{path}: has format {call['format']!r}, expected {FORMAT}; use the panembed that wrote it, or "
                    "predict again"
                )
            entries = [_entry(json.loads(line)) for line in lines[1:-1]]
        except (ValueError, TypeError, KeyError) as error:
            raise damaged from error
        return cls(folder, call["call"], {entry.file: entry for entry in entries})

    def label_set(self) -> LabelSet:
        """The classes."""
        return LabelSet.from_list(self.call["classes"])

    def check(self, call: Mapping[str, Any]) -> None:
        """Make sure that a call would give what the folder holds.

        Raises:
            SettingsError: names what is different.
        """
        for key in (self.call | dict(call)).keys() - {"model"}:  # it may have been moved; `weights` tells it
            asked, began = (json.dumps(values.get(key), ensure_ascii=False) for values in (call, self.call))
            if asked != began:
                told = f"{key} is {asked} now, but the prediction in {self.folder} began with {began}"
                if key in ("weights", "classes"):
                    told = f"the model is not the one that the prediction in {self.folder} began with"
                raise SettingsError(f"--resume: {told}; give it the same, or predict anew with --overwrite")

    def write(self) -> None:
        """Write all lines anew, in one step; OutputError where the folder can't be written."""
        lines = [{"format": FORMAT, "call": self.call}, *(asdict(entry) for entry in self.entries.values())]
        write_text(self.folder / RECORD_FILE, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def add(self, path: Path, result: PanopticResult) -> None:
        """Note an image whose files are all written; one that is noted already, as it is, stays."""
        entry = Entry.of(path, result)
        if self.entries.get(entry.file) == entry:
            return
        self.entries[entry.file] = entry
        try:
            with (self.folder / RECORD_FILE).open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"{self.folder / RECORD_FILE}: can't be written ({error.strerror}); free some space, and go on with "
                "--resume"
            ) from error


def _entry(data: Mapping[str, Any]) -> Entry:
    if data.keys() != {field.name for field in fields(Entry)}:
        raise ValueError
    height, width = data["shape"]
    return Entry(**{**data, "shape": (int(height), int(width))})
