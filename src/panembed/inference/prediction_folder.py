"""The folder that `panembed predict` fills: pictures of each image, tables and COCO panoptic of all."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from panembed.errors import InputError, PanembedError
from panembed.io.coco_panoptic import CocoPanopticWriter
from panembed.io.tables import write_csv
from panembed.labels import LabelSet
from panembed.result import PanopticResult

_MAX_WAITING = 4
"""Results that may wait to be written; more would only fill the memory."""


class PredictionFolder:
    """Writes results while the next image is being predicted.

    Use as a context manager; the tables and panoptic.json are written at its end.

    Args:
        folder: that exists and may be written to.
        label_set: the classes.

    Attributes:
        summary: one row per image: file, size, number of objects of each class.
        objects: one row per object.
        failed: one row per file that gave an error: file, reason.
    """

    def __init__(self, folder: Path, label_set: LabelSet) -> None:
        self.folder = folder
        self.summary: list[dict[str, Any]] = []
        self.objects: list[dict[str, Any]] = []
        self.failed: list[dict[str, str]] = []
        self._names: dict[str, Path] = {}
        self._coco = CocoPanopticWriter(folder, label_set)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write")
        self._waiting: deque[Future[None]] = deque()

    def add(self, path: Path, result: PanopticResult | PanembedError) -> PanembedError | None:
        """Take in what became of an input file.

        Returns:
            The error, if there is one: the file's own, or that another input has its name.

        Raises:
            OutputError: an earlier result couldn't be written.
        """
        if not isinstance(result, PanembedError) and path.stem in self._names:
            result = InputError(
                f"{path}: its results would replace those of {self._names[path.stem]}; rename one, or predict it apart"
            )
        if isinstance(result, PanembedError):
            self.failed.append({"file": str(path), "reason": str(result)})
            return result
        self._names[path.stem] = path
        while len(self._waiting) >= _MAX_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._writer.submit(self._write, path, result))
        return None

    def _write(self, path: Path, result: PanopticResult) -> None:
        result.save(self.folder)
        self._coco.add(path.name, result.panoptic)
        rows = result.measure()
        self.objects += [{"file": path.name, "instance_id": number, **row} for number, row in enumerate(rows, start=1)]
        height, width = result.panoptic.shape
        self.summary.append(
            {"file": path.name, "width": width, "height": height, "objects": len(rows), **result.counts()}
        )

    def close(self) -> None:
        """Wait for all results to be written, then write objects.csv, summary.csv, panoptic.json and failed.csv."""
        while self._waiting:
            self._waiting.popleft().result()
        self._writer.shutdown()
        self._coco.close()
        write_csv(self.folder / "objects.csv", self.objects, columns=("file", "instance_id"))
        write_csv(self.folder / "summary.csv", self.summary, columns=("file", "width", "height", "objects"))
        if self.failed:
            write_csv(self.folder / "failed.csv", self.failed, columns=("file", "reason"))
        else:
            # A list of failures from an earlier run into the same folder says nothing of this one.
            (self.folder / "failed.csv").unlink(missing_ok=True)

    def __enter__(self) -> PredictionFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.shutdown(cancel_futures=True)
