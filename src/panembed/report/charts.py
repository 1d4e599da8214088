"""Charts of a page: lines, histograms, reliability, clouds of points; as coordinates that a template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 40


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing that is drawn.

    Attributes:
        kind: line, bar, or dots.
        style: name of a class of the style sheet, or a colour.
        path: of SVG, for lines and dots.
        box: x, y, width and height of a bar.
        title: what is said when it is pointed at.
    """

    kind: str
    style: str
    path: str = ""
    box: tuple[float, float, float, float] = (0, 0, 0, 0)
    title: str = ""


@dataclass(slots=True)
class Chart:
    """One chart.

    Attributes:
        title: above it.
        text: what it shows in words, for those who don't see it.
        x_label: below it; `y_label` beside it.
        x_ticks: place and text; `y_ticks` as well.
        marks: what is drawn, in that order.
        legend: style and name of what is drawn.
        note: below it.
        width: of the drawing, in units; `height` as well.
    """

    title: str
    text: str
    x_label: str = ""
    y_label: str = ""
    x_ticks: list[tuple[float, str]] = field(default_factory=list)
    y_ticks: list[tuple[float, str]] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the place where marks are."""
        return _LEFT, _TOP, self.width - _RIGHT, self.height - _BOTTOM


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`.

    >>> ticks(0, 10)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    >>> ticks(0, 0.9)
    [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    if not high > low:
        return [low]
    rough = (high - low) / (most - 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(float(number * step), 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


class _Plane:
    """Data to places in a chart."""

    def __init__(self, chart: Chart, x: tuple[float, float], y: tuple[float, float], *, log_x: bool = False) -> None:
        self.chart, self.log_x = chart, log_x
        self.x_range = (math.log10(x[0]), math.log10(x[1])) if log_x else x
        self.y_range = y
        left, top, right, bottom = chart.frame
        self.at = left, right, bottom, top

    def x(self, value: float) -> float:
        value = math.log10(value) if self.log_x else value
        return self._place(value, self.x_range, self.at[0], self.at[1])

    def y(self, value: float) -> float:
        return self._place(value, self.y_range, self.at[2], self.at[3])

    @staticmethod
    def _place(value: float, over: tuple[float, float], begin: float, end: float) -> float:
        share = (value - over[0]) / ((over[1] - over[0]) or 1)
        return round(begin + share * (end - begin), 1)

    def draw_ticks(self, x: Sequence[float], y: Sequence[float]) -> None:
        self.chart.x_ticks = [(self.x(value), f"{value:g}") for value in x]
        self.chart.y_ticks = [(self.y(value), f"{value:g}") for value in y]

    def line(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
        # A gap stands where a value is missing or infinite.
        parts, pen = [], "M"
        for one, other in zip(x.tolist(), y.tolist()):
            if not math.isfinite(other):
                pen = "M"
                continue
            parts.append(f"{pen}{self.x(one)} {self.y(other)}")
            pen = "L"
        return "".join(parts)


def lines(
    title: str,
    series: Mapping[str, tuple[str, ArrayLike, ArrayLike]],
    *,
    x_label: str,
    y_label: str,
    top: float | None = None,
) -> Chart | None:
    """Lines over one axis, such as losses over epochs.

    Args:
        title: of the chart.
        series: style, x and y by name; values that are no numbers leave gaps.
        x_label: of the horizontal axis.
        y_label: of the other, which begins with 0.
        top: where it ends; None takes the highest value.

    Returns:
        None where there is nothing to draw.
    """
    arrays = {
        name: (style, np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
        for name, (style, x, y) in series.items()
    }
    arrays = {name: parts for name, parts in arrays.items() if np.isfinite(parts[2]).any()}
    if not arrays:
        return None
    finite = np.concatenate([y[np.isfinite(y)] for _, _, y in arrays.values()])
    last = max(float(x.max()) for _, x, _ in arrays.values())
    high = float(finite.max()) if top is None else top
    told = "; ".join(f"{name}: last {y[np.isfinite(y)][-1]:.3g}" for name, (_, _, y) in arrays.items())
    chart = Chart(title, f"{title} over {x_label}. {told}.", x_label, y_label)
    low = min(0.0, float(finite.min()))
    plane = _Plane(chart, (0, last or 1), (low, high if high > low else low + 1))
    plane.draw_ticks([tick for tick in ticks(0, last) if tick == int(tick)], ticks(low, high))
    for name, (style, x, y) in arrays.items():
        path = plane.line(x, np.minimum(y, high))
        chart.marks.append(Mark("line", style, path, title=name))
        if len(x) < 20:  # a line of one point, or of few, is hardly seen
            dots = "".join(f"M{plane.x(a)} {plane.y(min(b, high))}h0" for a, b in zip(x, y) if math.isfinite(b))
            chart.marks.append(Mark("dots", f"{style} big", dots))
        chart.legend.append((style, name))
    return chart


def histogram(
    title: str,
    groups: Mapping[str, tuple[str, ArrayLike]],
    *,
    x_label: str,
    edges: ArrayLike | None = None,
    log: bool = False,
    count: int = 24,
) -> Chart | None:
    """How often which value occurs, one colour a group.

    Args:
        title: of the chart.
        groups: style and values by name; what is no number is left out.
        x_label: of the values.
        edges: of the bars; None spreads `count` of them over the values, by factors with `log`.
        log: whether the axis is logarithmic; values above 0.
        count: of bars.

    Returns:
        None where there are no values.
    """
    arrays = {name: (style, np.asarray(values, dtype=np.float64)) for name, (style, values) in groups.items()}
    arrays = {name: (style, values[np.isfinite(values)]) for name, (style, values) in arrays.items()}
    arrays = {name: (style, values[values > 0] if log else values) for name, (style, values) in arrays.items()}
    arrays = {name: parts for name, parts in arrays.items() if len(parts[1])}
    if not arrays:
        return None
    everything = np.concatenate([values for _, values in arrays.values()])
    low, high = float(everything.min()), float(everything.max())
    if edges is not None:
        bounds = np.asarray(edges, dtype=np.float64)
    elif log:
        bounds = np.geomspace(low, high * 1.0001 if high > low else low * 2, count + 1)
    else:
        bounds = np.linspace(low, high if high > low else low + 1, count + 1)
    bars = {name: (style, np.histogram(values, bounds)[0]) for name, (style, values) in arrays.items()}
    most = max(int(numbers.max()) for _, numbers in bars.values())
    told = "; ".join(
        f"{name}: {len(values)}, median {_short(float(np.median(values)))}" for name, (_, values) in arrays.items()
    )
    chart = Chart(title, f"{title}. {told}.", x_label, "objects", note=told)
    plane = _Plane(chart, (float(bounds[0]), float(bounds[-1])), (0, most), log_x=log)
    plane.draw_ticks(
        _log_ticks(bounds[0], bounds[-1]) if log else ticks(float(bounds[0]), float(bounds[-1])), ticks(0, most)
    )
    floor = plane.y(0)
    for number, (name, (style, numbers)) in enumerate(bars.items()):
        for bar, begin, end in zip(numbers.tolist(), bounds[:-1].tolist(), bounds[1:].tolist()):
            if not bar:
                continue
            left, right, top = plane.x(begin), plane.x(end), plane.y(bar)
            wide = (right - left) / len(bars)
            box = (round(left + number * wide + 0.4, 1), top, round(max(wide - 0.8, 0.6), 1), round(floor - top, 1))
            chart.marks.append(
                Mark("bar", style, box=box, title=f"{name}: {bar} from {_short(begin)} to {_short(end)}")
            )
        chart.legend.append((style, name))
    return chart


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = math.log10(high / low) > 2.6
    return [m * 10.0**p for p in powers for m in ((1,) if wide else (1, 2, 5)) if low <= m * 10.0**p <= high]


def reliability(bins: Sequence[Mapping[str, Any]], note: str) -> Chart | None:
    """Of objects with such a score, how many match a true one; on the diagonal scores are what they say.

    Args:
        bins: `objects`, `mean_score` and `matched` of each, as `score_reliability` of metrics.json has them.
        note: below the chart.

    Returns:
        None where no bin has objects.
    """
    filled = [b for b in bins if b.get("objects") and b.get("mean_score") is not None and b.get("matched") is not None]
    if not filled:
        return None
    told = ", ".join(f"{b['mean_score']:.2f}: {b['matched']:.2f} of {b['objects']}" for b in filled)
    chart = Chart("Reliability of scores", f"Mean score, share that matches a true object. {told}.", "score", "matched")
    chart.note = note
    plane = _Plane(chart, (0, 1), (0, 1))
    plane.draw_ticks(ticks(0, 1), ticks(0, 1))
    chart.marks.append(Mark("line", "guide", plane.line(np.array([0.0, 1.0]), np.array([0.0, 1.0]))))
    x, y = (np.array([float(b[key]) for b in filled]) for key in ("mean_score", "matched"))
    chart.marks.append(Mark("line", "c0", plane.line(x, y)))
    for b, one, other in zip(filled, x.tolist(), y.tolist()):
        said = f"score {one:.2f}: {100 * other:.0f} % of {b['objects']} objects match"
        chart.marks.append(Mark("dots", "c0 big", f"M{plane.x(one)} {plane.y(other)}h0", title=said))
    chart.legend = [("c0", "measured"), ("guide", "a score is what it says")]
    return chart


def cloud(title: str, points: NDArray[np.floating], colors: Sequence[str], text: str) -> Chart:
    """Points in the plane, each in a colour (figure 2.9 of the thesis).

    Args:
        title: of the chart.
        points: Nx2.
        colors: of each point, as "#rrggbb".
        text: what it shows, in words.
    """
    chart = Chart(title, text, "", "", width=300, height=300)
    low, high = points.min(0), points.max(0)
    middle, reach = (low + high) / 2, float((high - low).max()) / 2 or 1.0
    plane = _Plane(chart, *((float(m - reach), float(m + reach)) for m in middle))
    plane.draw_ticks(ticks(*plane.x_range, most=4), ticks(*plane.y_range, most=4))
    by_color: dict[str, list[str]] = {}
    for color, (x, y) in zip(colors, points.tolist()):
        by_color.setdefault(color, []).append(f"M{plane.x(x)} {plane.y(y)}h0")
    chart.marks = [Mark("dots", color, "".join(path)) for color, path in by_color.items()]
    return chart
