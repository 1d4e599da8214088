"""A report as one HTML file that needs nothing else: no network, no other file, no program but a browser."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from panembed.errors import printable
from panembed.io.atomic import write_text
from panembed.report.charts import Chart
from panembed.report.error_colors import ERROR_COLORS, PREDICTED_NAMES, error_name
from panembed.report.pictures import shown_shape

REPORT_FILE = "report.html"
"""What a report is called in the folder that it tells of."""

MAX_BYTES = 25_000_000
"""Of a whole report."""

_LAYOUT_BYTES = 1_000_000
"""That all but pictures may take, and 1500 for each image."""

_LEAST_SHARE = 1500
"""Bytes for an image, below which there is no use in trying to draw it."""

VIEWS = {
    "input": "Input",
    "truth": "Truth",
    "prediction": "Prediction",
    "errors": "Errors",
}
"""The views of an image, in their order."""


@dataclass(slots=True)
class ReportImage:
    """One image.

    Attributes:
        name: of it.
        shape: height and width of its pictures, in pixels.
        pictures: data URIs by views; those that are not at hand are missing.
        facts: name and text of what is told of it.
        values: what images are sorted by, by the names in `Report.orders`; None comes last.
        errors: how many predicted objects have which label.
        lost: true objects that are lost.
        note: what is missing, and why.
    """

    name: str
    shape: tuple[int, int]
    pictures: dict[str, str] = field(default_factory=dict)
    facts: list[tuple[str, str]] = field(default_factory=list)
    values: dict[str, float | None] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    note: str = ""


@dataclass(slots=True)
class Table:
    """Rows of text below a title; the first column names the row."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""


@dataclass(slots=True)
class Panel:
    """A picture or a chart with a title, in a row of `NetworkExample`."""

    title: str
    picture: str = ""
    below: str = ""
    chart: Chart | None = None


@dataclass(slots=True)
class NetworkExample:
    """Pictures of one image side by side: what the network gives, or what augmentation makes of it."""

    name: str
    panels: list[Panel]
    shape: tuple[int, int]


@dataclass(slots=True)
class Report:
    """All that a report shows.

    Attributes:
        title: of the page.
        kind: what it tells of, in words.
        facts: name and text, for the summary.
        notes: what is missing, or to be known, one sentence each.
        headline: name and text of the few figures that count most.
        tables: below the summary.
        charts: of the whole.
        images: in the order in which they are shown.
        orders: name and direction (1 ascending, -1 descending) of what images can be sorted by, the first at first.
        network: what the network gives for some images.
        augmentation: images before and after augmentation.
        folded: titles and texts that are shown on demand, such as settings.
    """

    title: str
    kind: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    headline: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    images: list[ReportImage] = field(default_factory=list)
    orders: dict[str, int] = field(default_factory=dict)
    network: list[NetworkExample] = field(default_factory=list)
    augmentation: list[NetworkExample] = field(default_factory=list)
    folded: list[tuple[str, str]] = field(default_factory=list)

    @property
    def views(self) -> dict[str, str]:
        """The views that some image has."""
        return {view: name for view, name in VIEWS.items() if any(view in image.pictures for image in self.images)}


class PictureBudget:
    """How large pictures may be, so that a page of `num_images` stays below `MAX_BYTES`.

    Args:
        num_images: that will be shown.
        most: bytes of the page.

    Attributes:
        side: pixels of a picture's longer side at first.
        num_left_out: images whose pictures had no room.

    >>> budget = PictureBudget(2, most=1_009_000)
    >>> budget.fit((1000, 1000), lambda shape: {"input": "x" * (shape[0] * shape[1] // 200)})[0]
    (717, 717)
    """

    def __init__(self, num_images: int, most: int = MAX_BYTES) -> None:
        self.side = next(side for few, side in ((60, 1024), (150, 768), (400, 560), (10**12, 360)) if num_images <= few)
        self.num_left_out = 0
        self._left = most - _LAYOUT_BYTES - 1500 * num_images
        self._num_images = num_images

    def fit(
        self, shape: tuple[int, int], draw: Callable[[tuple[int, int]], dict[str, str]]
    ) -> tuple[tuple[int, int], dict[str, str]]:
        """Draw the next image so large that it takes its share of what is left.

        Args:
            shape: height and width of the image.
            draw: makes its pictures, data URIs by views, of a height and width.

        Returns:
            The height and width that fit, and the pictures; none where there is no room.
        """
        share = self._left / max(1, self._num_images)
        self._num_images -= 1
        small = shape
        if share > _LEAST_SHARE:
            for factor in (1.0, 0.7, 0.5, 0.35, 0.2):
                small = shown_shape(shape, round(factor * self.side))
                pictures = draw(small)
                size = sum(map(len, pictures.values()))
                if size <= share:
                    self._left -= size
                    return small, pictures
        self.num_left_out += 1
        return small, {}

    def notes(self) -> list[str]:
        """A sentence if images were left out."""
        if not self.num_left_out:
            return []
        return [f"Pictures of {self.num_left_out} images are left out, so that the page stays below 25 MB."]


def ranked(values: Sequence[float | None], direction: int) -> list[int]:
    """Places of the values in order; None comes last, equal ones stay as they are.

    >>> ranked([0.5, None, 0.2], 1), ranked([0.5, None, 0.2], -1)
    ([2, 0, 1], [0, 2, 1])
    """
    return sorted(range(len(values)), key=lambda i: (values[i] is None, direction * (values[i] or 0.0)))


def render(report: Report) -> str:
    """The page as text; all that comes from files is escaped.

    >>> "<script>alert(" in render(Report("<script>alert(1)</script>", "a test"))
    False
    """
    environment = Environment(
        loader=PackageLoader("panembed.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    places: list[dict[str, int]] = [{} for _ in report.images]
    for name, direction in report.orders.items():
        for place, index in enumerate(ranked([image.values.get(name) for image in report.images], direction)):
            places[index][name] = place
    for place, index in enumerate(sorted(range(len(report.images)), key=lambda i: report.images[i].name)):
        places[index]["name"] = place
    context: dict[str, Any] = {
        "report": report,
        "places": places,
        "version": installed_version("panembed"),
        "error_colors": dict(ERROR_COLORS),
        "error_names": {label: error_name(label, PREDICTED_NAMES) for label in ERROR_COLORS},
        "views": report.views,
    }
    return printable(environment.get_template("report.html.j2").render(context))


def write_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the page, whole or not at all; OutputError where it can't be written."""
    write_text(path, render(report))
