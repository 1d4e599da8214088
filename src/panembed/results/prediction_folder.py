"""The folder that `panembed predict` fills: pictures of each image, tables and COCO panoptic of all."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from panembed.errors import InputError, PanembedError, printable
from panembed.io.coco_panoptic import CocoPanopticWriter
from panembed.io.legend import write_legend
from panembed.io.measured_channels import read_channels
from panembed.io.pixel_size import PixelSize
from panembed.io.tables import CsvDialect, growing_csv_writer, write_csv
from panembed.labels.categories import LabelSet
from panembed.results.exports.exporter import FORMATS, Exporter, open_exporter
from panembed.results.measure import COLUMNS, PHYSICAL_COLUMNS, measure_image
from panembed.results.record import PredictionRecord
from panembed.results.remarks import Remark
from panembed.results.result import PanopticResult
from panembed.results.rounding import rounded

_SUMMARY_COLUMNS = ("file", "width", "height", "objects")
"""Of summary.csv, before the classes."""

_NOTES = "notes"
"""Its last column: what is worth saying of the result."""

_TOTALS = ("object_area", "mean_object_area", "hull_area")
"""After the classes; then come areas in a unit, and means of channels."""

_LONGEST_NAME = 255
"""Bytes of a file's name on common disks."""

_MAX_WAITING = 4
"""Results that may wait to be written; more would only fill the memory."""


class PredictionFolder:
    """Writes results while the next image is being predicted.

    Use as a context manager; the tables and panoptic.json appear at its end, and only if the block raises nothing, or
    KeyboardInterrupt: then they tell of the images written so far, and what waits is dropped.

    Args:
        folder: that exists and may be written to.
        label_set: the classes.
        pixel_size: side of a pixel in the user's unit of length, of images whose result has none.
        formats: of `panembed.results.exports.exporter.FORMATS`, what to write besides. Files that an earlier call wrote
            in one of the others are removed, as they would pass for these results.
        record: is told of every image whose files are written; see `panembed.results.record.PredictionRecord`.
        numbered: whether overlays show the numbers of the objects.
        dialect: of numbers in the tables.

    Attributes:
        num_images: written so far, or waiting to be.
        num_objects: of the images written so far.
        failed: one row per file that gave an error: file, reason.
        has_tables: whether the tables and panoptic.json are written.
        remarks: on the images written so far, each with the name of its file.
    """

    def __init__(
        self,
        folder: Path,
        label_set: LabelSet,
        pixel_size: float | None = None,
        formats: Sequence[str] = (),
        *,
        record: PredictionRecord | None = None,
        numbered: bool = False,
        dialect: CsvDialect = "point",
    ) -> None:
        self.folder = folder
        self.label_set = label_set
        self.pixel_size = pixel_size
        self.num_images = 0
        self.num_objects = 0
        self.failed: list[dict[str, str]] = []
        self.has_tables = False
        self.remarks: list[tuple[str, Remark]] = []
        self.record = record
        self.numbered = numbered
        self.dialect = dialect
        self._exporters: list[Exporter] = [open_exporter(name, folder, label_set) for name in formats]
        self._others = [format for name, format in FORMATS.items() if name not in formats]
        written = ["{}_instances.png", *(exporter.format.each for exporter in self._exporters)]
        self._longest = max(len(Path(each).name) - len("{}") for each in written)
        self._num_written = 0
        self._interruption: KeyboardInterrupt | None = None
        self._names: dict[str, Path] = {}
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> PredictionFolder:
        things = [self.label_set[index].name for index in self.label_set.things]
        # With one class its objects are all objects.
        self._classes = {name: _column(name) for name in things} if len(things) > 1 else {}
        columns = COLUMNS if self.pixel_size is None else (*COLUMNS, *PHYSICAL_COLUMNS)
        write_legend(self.folder, self.label_set)
        with ExitStack() as stack:
            # Rows go to the disk at once: those of many images would fill the memory.
            self._write_summary = stack.enter_context(
                growing_csv_writer(
                    self.folder / "summary.csv",
                    (*_SUMMARY_COLUMNS, *self._classes.values(), *_TOTALS),
                    last=(_NOTES,),
                    dialect=self.dialect,
                )
            )
            self._write_objects = stack.enter_context(
                growing_csv_writer(self.folder / "objects.csv", ("file", "instance_id", *columns), dialect=self.dialect)
            )
            self._coco = stack.enter_context(CocoPanopticWriter(self.folder, self.label_set, ids_from_names=True))
            self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write")
            stack.push(self._finish)
            self._end = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        try:
            if interrupted:
                self._drop_waiting()
        except BaseException as worse:
            # A second interruption, or what was written last could not be.
            self._end.__exit__(type(worse), worse, worse.__traceback__)
            raise
        self._end.__exit__(*((None, None, None) if interrupted else (kind, error, traceback)))
        self.has_tables = kind is None or interrupted
        if self._interruption is not None:
            raise self._interruption

    def _drop_waiting(self) -> None:
        """Write no more pictures than are begun; the error of one that could not be is raised."""
        self._writer.shutdown(cancel_futures=True)
        for future in self._waiting:
            if not future.cancelled():
                future.result()
        self._waiting.clear()
        self.num_images = self._num_written

    def add(self, path: Path, result: PanopticResult | PanembedError, *, drawn: bool = False) -> PanembedError | None:
        """Take in what became of an input file.

        Args:
            path: of the file.
            result: or its error.
            drawn: its pictures are there already; the image of the result isn't looked at.

        Returns:
            The error, if there is one: the file's own, that another input has its name, or that the name can't be
            written.

        Raises:
            OutputError: an earlier result couldn't be written.
        """
        if not isinstance(result, PanembedError) and path.stem in self._names:
            result = InputError(
                f"{path}: its results would replace those of {self._names[path.stem]}; rename one, or predict it apart"
            )
        if printable(path.name) != path.name:
            result = InputError(f"{path}: its name is not UTF-8, which tables and JSON need; rename it")
        beyond = len(path.stem.encode(errors="replace")) + self._longest - _LONGEST_NAME
        if beyond > 0:
            result = InputError(
                f"{path}: its name is too long to write NAME_instances.png and others; shorten it (bytes too many: "
                f"{beyond})"
            )
        if not isinstance(result, PanembedError):
            result = self._checked(path, result)
        if isinstance(result, PanembedError):
            self.failed.append({"file": printable(path), "reason": printable(result)})
            return result
        self._names[path.stem] = path
        self.num_images += 1
        while len(self._waiting) >= _MAX_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._writer.submit(self._write, path, result, drawn))
        return None

    def _checked(self, path: Path, result: PanopticResult) -> PanopticResult | InputError:
        """The result, or why it can't be written in one of the formats."""
        try:
            for exporter in self._exporters:
                exporter.check(path, result)
        except InputError as error:
            return error
        return result

    def _write(self, path: Path, result: PanopticResult, drawn: bool) -> None:
        if not drawn:
            result.save(self.folder, numbered=self.numbered)
        self._coco.add(path.name, result.panoptic)
        if result.pixel_size is None and self.pixel_size is not None:
            result.pixel_size = PixelSize(self.pixel_size)
        channels = read_channels(result.source or path, result.panoptic.shape)
        measured = result.measure(channels=channels)
        total = measure_image(
            result.panoptic, self.label_set, measured, pixel_size=result.pixel_size, channels=channels
        )
        rows = [rounded(row) for row in measured]
        named = zip(result.numbers, rows, strict=True)
        self._write_objects({"file": path.name, "instance_id": number, **row} for number, row in named)
        for exporter in self._exporters:
            exporter.add(path, result, rows)
        for other in self._others:
            if other.each:
                with suppress(OSError):  # a name that is too long for it is none of an earlier file
                    (self.folder / other.each.format(result.name)).unlink(missing_ok=True)
        height, width = result.panoptic.shape
        row = dict(zip(_SUMMARY_COLUMNS, (path.name, width, height, len(rows))))
        row |= {self._classes[name]: number for name, number in result.counts().items() if name in self._classes}
        notes = "; ".join(remark.text for remark in result.remarks)
        self._write_summary([row | rounded(total) | {_NOTES: notes}])
        self.remarks += [(path.name, remark) for remark in result.remarks]
        if self.record is not None:
            self.record.add(path, result)
        self.num_objects += len(rows)
        self._num_written += 1

    def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Wait for all results to be written, then write failed.csv; after an error, drop what waits."""
        try:
            while self._waiting and kind is None:
                self._waiting[0].result()
                self._waiting.popleft()
        except KeyboardInterrupt as error:
            self._drop_waiting()
            self._interruption = error
        finally:
            self._writer.shutdown(cancel_futures=True)
        if kind is None:
            for exporter in self._exporters:
                exporter.close()
            for other in self._others:
                if other.all:
                    (self.folder / other.all).unlink(missing_ok=True)
        if kind is None and self.failed:
            write_csv(self.folder / "failed.csv", self.failed, columns=("file", "reason"))
        elif kind is None:
            # A list of failures from an earlier run into the same folder says nothing of this one.
            (self.folder / "failed.csv").unlink(missing_ok=True)
        return False


def _column(name: str) -> str:
    """A class's column in summary.csv, which no other column is called like."""
    return f"class {name}" if name in (*_SUMMARY_COLUMNS, *_TOTALS, _NOTES) else name
