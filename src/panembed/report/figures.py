"""Figures as the thesis has them: loss curves (4.3), and input, truth and prediction side by side (4.4 to 4.6).

Beside them what the thesis doesn't show: what is wrong with each object, in the picture and by size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from panembed.io.atomic import atomic_path
from panembed.io.contact_sheet import drawable
from panembed.io.overlay import color_map, overlay, tells_classes
from panembed.labels.categories import IGNORE, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.error_census import PREDICTED_LABELS, TRUE_LABELS, classify_objects
from panembed.metrics.overlaps import count_overlaps
from panembed.report.error_colors import (
    ERROR_COLORS,
    HATCHES,
    PREDICTED_NAMES,
    TRUE_NAMES,
    error_name,
    paler,
    pattern,
)
from panembed.report.matching_colors import match_colors


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One row of the side-by-side figure.

    Attributes:
        name: of the image.
        image: HxWx3 uint8; None where it isn't at hand, which leaves its place empty.
        truth: HxW.
        prediction: HxW.
        caption: under the name, such as its score.
    """

    name: str
    image: NDArray[np.uint8] | None
    truth: PanopticMap
    prediction: PanopticMap
    caption: str = ""


def loss_curves(rows: Sequence[Mapping[str, Any]], path: Path, *, kept: int | None = None) -> None:
    """Draw training and validation loss, and validation PQ, over epochs.

    The instance loss is drawn with its weight, so that it and the semantic loss add up to the total.

    Args:
        rows: of metrics.csv; an epoch without validation lacks the val_ figures.
        path: of the PNG.
        kept: the epoch whose weights the model has, which is marked.
    """
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    parts = {"loss": "-", "semantic_loss": "--", "instance_loss": ":"}
    for stage, color in (("train", "tab:blue"), ("val", "tab:orange")):
        for part, style in parts.items():
            x, y = _series(_weighted(rows, stage), f"{stage}_{part}")
            name = {"loss": "total", "semantic_loss": "semantic", "instance_loss": "instance, weighted"}[part]
            label = f"{'training' if stage == 'train' else 'validation'} {name}"
            if len(x):
                # A line of one point, or of few, is hardly seen.
                marker = "." if len(x) < _FEW_POINTS else ""
                left.plot(
                    x, y, style, marker=marker, color=color, label=label, linewidth=1.6 if part == "loss" else 1.0
                )
    left.set(xlabel="epoch", ylabel="loss", title="Loss", ylim=(0, None))
    for name, color in (("val_pq_things", "tab:green"), ("val_pq_stuff", "tab:gray"), ("val_sbd", "tab:purple")):
        x, y = _series(rows, name)
        if np.isfinite(y).any():
            right.plot(
                x,
                100 * y,
                ".-",
                color=color,
                label={"val_pq_things": "PQ of things", "val_pq_stuff": "PQ of stuff", "val_sbd": "SBD"}[name],
            )
    right.set(xlabel="epoch", ylabel="percent", title="Validation scores", ylim=(0, 100))
    for axes in (left, right):
        if kept is not None and axes.lines:
            axes.axvline(kept, color="black", linewidth=1, linestyle=(0, (4, 2)), label=f"kept: epoch {kept}")
        if axes.lines:
            axes.legend(fontsize=7, loc="upper right" if axes is left else "lower right")
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(left=0)
    _save(figure, path)


def _weighted(rows: Sequence[Mapping[str, Any]], stage: str) -> list[dict[str, Any]]:
    """The rows with the instance loss as it enters the total: what the semantic loss leaves of that."""
    total, semantic, instance = (f"{stage}_{part}" for part in ("loss", "semantic_loss", "instance_loss"))
    weighted = []
    for row in rows:
        known = all(row.get(name) not in (None, "") for name in (total, semantic, instance))
        weighted.append(dict(row) | ({instance: float(row[total]) - float(row[semantic])} if known else {}))
    return weighted


_FEW_POINTS = 20

_LEGEND_ENTRY = 1.45
"""Inches that an entry of a legend takes, its marker and the longest name."""

_LONGEST_NAME = 48
"""Characters that fit below a picture."""


def comparison(rows: Iterable[Comparison], label_set: LabelSet, path: Path) -> None:
    """Draw input, truth, prediction and errors side by side, one row per image.

    A predicted object has the colour of the true object that it overlaps most (`match_colors`), found or not. The
    errors are those of `error_maps`. Objects are pale, errors are not. Of each image the part about its objects is
    shown. Where no row has an image there is no input, where no class is a thing there are no errors.

    Args:
        rows: at least one.
        label_set: the classes.
        path: of the PNG.
    """
    rows = list(rows)
    has_input = any(row.image is not None for row in rows)
    columns = [*(["input"] if has_input else []), "truth", "prediction", *(["errors"] if label_set.things else [])]
    heights = [_proportion(_around_objects(row, label_set)) for row in rows]
    figure = Figure(figsize=(3.2 * len(columns), 0.8 + 0.3 * len(rows) + 3.1 * sum(heights)), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, gridspec_kw={"height_ratios": heights})
    drawn: set[str] = set()
    for line, row in zip(grid, rows):
        axes = dict(zip(columns, line))
        if row.image is not None:
            axes["input"].imshow(row.image, interpolation="nearest")
        matched = match_colors(row.prediction, row.truth, label_set)
        for name, panoptic in (("truth", row.truth), ("prediction", matched)):
            colors = color_map(panoptic, label_set)
            is_thing = np.isin(panoptic.semantic, label_set.things)
            colors[is_thing] = paler(colors[is_thing])
            picture = overlay(colors, panoptic, label_set, opacity=0.0)
            axes[name].imshow(picture, interpolation="nearest")
        if "errors" in axes:
            drawn |= _draw_errors(axes["errors"], row.prediction, row.truth, label_set)
        for axis in line:
            _show_part(axis, _around_objects(row, label_set))
        line[0].set_xlabel(_shortened(row.name), fontsize=8)
        axes["prediction"].set_xlabel(row.caption, fontsize=8)
    for axis, title in zip(grid[0], columns):
        axis.set_title(title, fontsize=10)
    if tells_classes(label_set):
        shown = np.unique([index for row in rows for index in np.unique([row.truth.semantic, row.prediction.semantic])])
        patches = []
        for index in shown[shown != IGNORE].tolist():
            color = np.array(label_set[index].color, dtype=np.uint8)
            red, green, blue = ((paler(color) if label_set[index].is_thing else color) / 255).tolist()
            patches.append(Patch(color=(red, green, blue), label=_plain(label_set[index].name)))
        columns_of_names = min(len(patches), max(1, int(figure.get_figwidth() / _LEGEND_ENTRY)))
        figure.legend(handles=patches, fontsize=8, ncols=columns_of_names, loc="outside upper center", frameon=False)
    _add_legend(figure, drawn)
    _save(figure, path)


def error_maps(rows: Iterable[Comparison], label_set: LabelSet, path: Path) -> None:
    """Draw what is wrong with each object, without photographs: for images that may not be shown.

    A predicted object has the colour of its label (`panembed.metrics.error_census.classify_objects`); a circle of the
    area of each true object that is lost stands at the middle of it. Of each image the part about its objects is
    shown.

    Args:
        rows: at least one; their images are not used.
        label_set: the classes.
        path: of the PNG.
    """
    rows = list(rows)
    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    height = max(_proportion(_around_objects(row, label_set)) for row in rows)
    figure = Figure(figsize=(3.2 * columns, 0.9 + lines * (0.4 + 3.1 * height)), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    drawn: set[str] = set()
    for axis, row in zip(grid, rows):
        drawn |= _draw_errors(axis, row.prediction, row.truth, label_set)
        _show_part(axis, _around_objects(row, label_set))
        axis.set_title(_shortened(row.name), fontsize=9)
        axis.set_xlabel(row.caption, fontsize=8)
    for axis in grid[len(rows) :]:
        axis.set_axis_off()
    _add_legend(figure, drawn)
    _save(figure, path)


Part = tuple[tuple[int, int], tuple[int, int]]
"""First and last column, first and last row, exclusive."""


def _proportion(part: Part) -> float:
    """Height of a part's place by its width, within bounds that leave the whole figure a size to look at."""
    (left, right), (top, bottom) = part
    return float(np.clip((bottom - top) / (right - left), 0.2, 4))


def _show_part(axis: Axes, part: Part) -> None:
    (left, right), (top, bottom) = part
    axis.set(xticks=[], yticks=[], xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))


def _around_objects(row: Comparison, label_set: LabelSet) -> Part:
    """First and last column and row, exclusive, of a part of the image's shape that holds its objects, true or not."""
    height, width = row.truth.shape
    objects = np.isin(row.truth.semantic, label_set.things) | np.isin(row.prediction.semantic, label_set.things)
    if not objects.any():
        return (0, width), (0, height)
    lines = [np.flatnonzero(objects.any(axis)) for axis in (0, 1)]
    share = max((line[-1] + 1 - line[0]) / side for line, side in zip(lines, (width, height)))
    sides = [min(side, round(1.1 * share * side)) for side in (width, height)]
    middles = [(line[0] + line[-1] + 1) // 2 for line in lines]
    starts = [
        int(np.clip(middle - side // 2, 0, whole - side))
        for middle, side, whole in zip(middles, sides, (width, height))
    ]
    return (starts[0], starts[0] + sides[0]), (starts[1], starts[1] + sides[1])


def _draw_errors(axes: Axes, prediction: PanopticMap, truth: PanopticMap, label_set: LabelSet) -> set[str]:
    """Paint predicted objects by their labels, circle the lost ones, and return the labels drawn, and "lost"."""
    true, predicted = classify_objects(count_overlaps(prediction, truth, label_set), label_set)
    # Segments are numbered here as `count_overlaps` numbers them; -1, of what is no object, takes the last, black.
    palette = np.array([*(to_rgb(ERROR_COLORS[label]) for label in PREDICTED_LABELS), (0, 0, 0)])
    segments, _ = prediction.segments(label_set)
    painted = (255 * palette[predicted][segments]).astype(np.uint8)
    for place, label in enumerate(PREDICTED_LABELS):
        darker = pattern(label, segments.shape) & np.append(predicted == place, False)[segments]
        painted[darker] //= 2
    axes.imshow(overlay(painted, prediction, label_set, opacity=0.0), interpolation="nearest")
    drawn = {PREDICTED_LABELS[label] for label in predicted[predicted >= 0]}
    segments, _ = truth.segments(label_set)
    smallest = 0.012 * max(truth.shape)
    lost = np.flatnonzero((true >= 0) & (true != TRUE_LABELS.index("found")))
    if len(lost):
        numbers = segments.ravel()
        area, sum_y, sum_x = (
            np.bincount(numbers, weights, minlength=len(true))[lost]
            for weights in (None, *(place.ravel() for place in np.indices(segments.shape)))
        )
        side = 2 * np.maximum(np.sqrt(area / np.pi), smallest)
        # White on black is seen on any colour.
        for width, color in ((2.6, "black"), (1.2, "white")):
            circles = EllipseCollection(
                *(side, side, np.zeros(len(lost))),
                units="xy",
                offsets=np.stack([sum_x, sum_y], axis=1) / area[:, None],
                transOffset=axes.transData,
                facecolors="none",
                edgecolors=color,
                linewidths=width,
            )
            axes.add_collection(circles)
        drawn.add("lost")
    return drawn


def _add_legend(figure: Figure, drawn: set[str]) -> None:
    """Name what `_draw_errors` has drawn below the figure, if it is anything."""
    handles: list[Artist] = [
        Patch(
            facecolor=color,
            edgecolor=_darker(color) if label in HATCHES else color,
            hatch=HATCHES.get(label),
            linewidth=0,
            label=error_name(label, PREDICTED_NAMES),
        )
        for label, color in ERROR_COLORS.items()
        if label in drawn
    ]
    if "lost" in drawn:
        ring = Line2D([], [], linestyle="none", marker="o", markersize=8, markerfacecolor="none", color="black")
        ring.set_label("a true object that is lost")
        handles.append(ring)
    if handles:
        columns = min(len(handles), max(1, int(figure.get_figwidth() / _LEGEND_ENTRY)))
        figure.legend(handles=handles, fontsize=8, ncols=columns, loc="outside lower center", frameon=False)


def _darker(color: str) -> tuple[float, float, float]:
    red, green, blue = to_rgb(color)
    return red / 2, green / 2, blue / 2


def _shortened(name: str) -> str:
    """The end of a long name, which tells images of one folder apart."""
    return _plain(name if len(name) <= _LONGEST_NAME else f"...{name[-_LONGEST_NAME:]}")


def _plain(name: str) -> str:
    """As Matplotlib draws it as it is: one line, and dollar signs are no formulas."""
    return drawable(name).replace("$", r"\$")


def fates_by_size(groups: Sequence[Mapping[str, Any]], path: Path, predicted: Mapping[str, Any] | None = None) -> None:
    """Draw what became of true objects, one bar a size group, and below what the predicted ones are.

    Args:
        groups: `by_size` of `panembed.metrics.error_census.ErrorCensus.compute`; at least one.
        path: of the PNG.
        predicted: `predicted` of it; None leaves these out.
    """
    bars_of = [*groups, *([predicted] if predicted is not None and predicted["objects"] else [])]
    figure = Figure(figsize=(7.2, 1.5 + 0.45 * len(bars_of)), layout="constrained")
    axes = figure.subplots()
    names = [f"{g['area_from']} to {g['area_to']} px\n{g['objects']} true" for g in groups]
    names += [f"all predicted\n{g['objects']}" for g in bars_of[len(groups) :]]
    places = np.arange(len(bars_of)) + 0.5 * (np.arange(len(bars_of)) >= len(groups))
    left = np.zeros(len(bars_of))
    for label in dict.fromkeys((*TRUE_LABELS, *PREDICTED_LABELS)):
        shares = np.array([100 * g.get(label, 0) / g["objects"] for g in bars_of])
        if not shares.any():
            continue
        bars = axes.barh(
            places,
            shares,
            left=left,
            color=ERROR_COLORS[label],
            label=error_name(label, TRUE_NAMES),
            height=0.7,
            hatch=HATCHES.get(label),
            edgecolor=_darker(ERROR_COLORS[label]),
            linewidth=0,
        )
        axes.bar_label(bars, [f"{s:.0f}" if s >= 4 else "" for s in shares], label_type="center", fontsize=8)
        for text in axes.texts:
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
        left += shares
    axes.set_yticks(places, names)
    axes.set(xlim=(0, 100), xlabel="percent of the objects")
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    columns = int(figure.get_figwidth() / _LEGEND_ENTRY)
    figure.legend(fontsize=8, ncols=columns, loc="outside upper center", frameon=False)
    _save(figure, path)


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pairs = [(float(row["epoch"]), float(row[name])) for row in rows if row.get(name) not in (None, "")]
    array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
