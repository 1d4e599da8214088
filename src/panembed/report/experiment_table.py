"""Tables and a picture of many runs: a row for each variant, figures as mean and standard deviation over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from panembed.io.atomic import atomic_path
from panembed.report.tables import latex_text, markdown_text


@dataclass(frozen=True, slots=True)
class Column:
    """How a figure of a run is shown.

    Attributes:
        title: heading.
        factor: from the figure as it is stored to the one that is shown.
        decimals: that are shown.
        better: 1 where more is better, -1 where less is, 0 where neither wins.
        latex: heading in LaTeX; None for the title.
    """

    title: str
    factor: float = 100
    decimals: int = 1
    better: int = 1
    latex: str | None = None


_GROUPS = {"all": ("", ""), "things": (" things", "^{Th}"), "stuff": (" stuff", "^{St}")}

COLUMNS: dict[str, Column] = {
    **{
        f"{group}.{figure}": Column(f"{figure.upper()}{words}", latex=f"$\\mathrm{{{figure.upper()}}}{mark}$")
        for group, (words, mark) in _GROUPS.items()
        for figure in ("pq", "sq", "rq")
    },
    "sbd": Column("SBD"),
    "abs_dic": Column("abs. DiC", 1, 2, -1),
    "fbd": Column("FBD"),
    "ap": Column("AP"),
    "ap50": Column("AP50"),
    "miou": Column("mIoU"),
    "train_seconds": Column("training, min", 1 / 60, 1, 0),
    "predict_seconds": Column("ms an image", 1000, 0, 0),
    "parameters": Column("parameters, M", 1e-6, 1, 0),
    "trained_parameters": Column("trained, M", 1e-6, 1, 0),
}
"""What a table can show of any data. Shares are stored as fractions and shown in percent."""

_CLASS_FIGURES = {"pq": "PQ", "sq": "SQ", "rq": "RQ", "iou": "IoU", "ap": "AP", "ap50": "AP50"}


def column_of(name: str) -> Column | None:
    """How the figure of that name is shown: one of `COLUMNS`, or per_class.CLASS.FIGURE; None where there is none.

    >>> column_of("per_class.traffic light.pq").title, column_of("per_class.car.dice")
    ('PQ traffic light', None)
    """
    group, _, rest = name.partition(".")
    class_name, _, figure = rest.rpartition(".")
    if group == "per_class" and class_name and figure in _CLASS_FIGURES:
        return Column(f"{_CLASS_FIGURES[figure]} {class_name}")
    return COLUMNS.get(name)


def figure_of(metrics: Mapping[str, Any], name: str) -> float | None:
    """The figure of that name in metrics as `evaluation.scores.Evaluation.metrics` gives them; None without one.

    >>> figure_of({"things": {"pq": 0.5}, "per_class": {"leaf": {"pq": 0.4}}}, "per_class.leaf.pq")
    0.4
    """
    group, _, rest = name.partition(".")
    if not rest:
        return metrics.get(name)
    place = metrics[group]
    class_name, _, figure = rest.rpartition(".")
    found: float | None = (place.get(class_name, {}) if class_name else place).get(figure)
    return found


@dataclass(frozen=True, slots=True)
class Row:
    """A variant and what its runs gave.

    Attributes:
        name: of the variant.
        about: what it is, for the legend.
        records: one per run that is done: its seed, and values by the names of columns; None where there is none.
    """

    name: str
    about: str
    records: Sequence[Mapping[str, Any]]

    def values(self, column: str) -> list[float]:
        """The figure of each run, as it is stored.

        >>> Row("a", "", [{"seed": 0, "sbd": 0.5}, {"seed": 1, "sbd": None}]).values("sbd")
        [0.5]
        """
        return [float(record[column]) for record in self.records if record.get(column) is not None]

    def mean(self, column: str) -> float | None:
        """Mean over the runs; None without any."""
        values = self.values(column)
        return statistics.fmean(values) if values else None

    def deviation(self, column: str) -> float | None:
        """Sample standard deviation over the runs (n - 1); None for fewer than two.

        >>> Row("a", "", [{"sbd": 0.5}, {"sbd": 0.7}]).deviation("sbd").__round__(4)
        0.1414
        """
        values = self.values(column)
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """Figures that others published.

    Attributes:
        name: of their method.
        source: where they stand.
        values: by the names of columns, as they are printed there: shares in percent.
    """

    name: str
    source: str
    values: Mapping[str, float] = field(default_factory=dict)


def best(rows: Sequence[Row], column: str) -> Row | None:
    """The row that is better than every other by more than the spread; None where there is no such row.

    The spread is the larger standard deviation of the two rows, so both need two runs or more.

    >>> few, many = Row("few", "", [{"sbd": 0.6}, {"sbd": 0.62}]), Row("many", "", [{"sbd": 0.7}, {"sbd": 0.72}])
    >>> best([few, many], "sbd").name
    'many'
    >>> best([few, Row("one", "", [{"sbd": 0.9}])], "sbd")
    """
    sign = _column(column).better
    scored = [(sign * mean, row) for row in rows if (mean := row.mean(column)) is not None]
    if sign == 0 or len(scored) < 2:
        return None
    top, winner = max(scored, key=lambda pair: pair[0])
    for mean, row in scored:
        if row is winner:
            continue
        spreads = [row.deviation(column), winner.deviation(column)]
        known = [spread for spread in spreads if spread is not None]
        if len(known) < 2 or top - mean <= max(known):
            return None
    return winner


def markdown_table(rows: Sequence[Row], published: Sequence[PublishedRow], columns: Sequence[str]) -> str:
    """A Markdown table: published rows in italics, then a row for each variant with the number of its runs.

    >>> print(markdown_table([Row("plain", "", [{"sbd": 0.8}, {"sbd": 0.82}])], [], ["sbd"]))
    | | runs | SBD |
    |---|---:|---:|
    | plain | 2 | 81.0 ± 1.4 |
    """
    lines = ["| | runs | " + " | ".join(markdown_text(_column(name).title) for name in columns) + " |"]
    lines.append("|---|" + "---:|" * (len(columns) + 1))
    for reference in published:
        cells = [f"*{_printed(reference, name)}*" for name in columns]
        lines.append(f"| *{markdown_text(reference.name)}* | | {' | '.join(cells)} |")
    winners = {name: best(rows, name) for name in columns}
    for row in rows:
        cells = [_bold(_shown(row, name, " ± "), winners[name] is row, "**{}**") for name in columns]
        lines.append(f"| {row.name} | {len(row.records)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def latex_table(rows: Sequence[Row], published: Sequence[PublishedRow], columns: Sequence[str]) -> str:
    r"""The same as a LaTeX tabular, to be taken into a table with `\input`.

    >>> print(latex_table([Row("a_b", "", [{"sbd": 0.8}])], [], ["sbd"]).splitlines()[-3])
    a\_b & 1 & 80.0 \\
    """
    titles = [_column(name).latex or latex_text(_column(name).title) for name in columns]
    lines = [f"\\begin{{tabular}}{{l*{{{len(columns) + 1}}}{{r}}}}", "\\hline"]
    lines += [f"Model & $n$ & {' & '.join(titles)} \\\\", "\\hline"]
    for reference in published:
        cells = [f"\\textit{{{_printed(reference, name)}}}" for name in columns]
        lines.append(
            f"\\textit{{{latex_text(reference.name)}}} & & {' & '.join(cells)} \\\\ % {latex_text(reference.source)}"
        )
    winners = {name: best(rows, name) for name in columns}
    for row in rows:
        cells = [_bold(_shown(row, name, " $\\pm$ "), winners[name] is row, "\\textbf{{{}}}") for name in columns]
        lines.append(f"{latex_text(row.name)} & {len(row.records)} & {' & '.join(cells)} \\\\")
    lines += ["\\hline", "\\end{tabular}"]
    return "\n".join(lines) + "\n"


def plot_runs(rows: Sequence[Row], published: Sequence[PublishedRow], column: str, path: Path) -> None:
    """Draw each run as a point and each variant's mean as a bar across them; published figures as hollow diamonds.

    Args:
        rows: from top to bottom, below the published ones; rows without runs are left out.
        published: rows that lack the figure are left out.
        column: its name.
        path: of the PNG.

    Raises:
        OutputError: the file can't be written.
    """
    shown = _column(column)
    rows = [row for row in rows if row.values(column)]
    known = [reference for reference in published if column in reference.values]
    labels = [reference.name for reference in known] + [row.name for row in rows]
    from matplotlib.figure import Figure  # only the plot needs it

    figure = Figure(figsize=(7.5, 1.1 + 0.32 * len(labels)), layout="constrained")
    axes = figure.subplots()
    for place, reference in enumerate(known):
        axes.plot(reference.values[column], place, "D", color="tab:green", markerfacecolor="white")
    for place, row in enumerate(rows, len(known)):
        values = [shown.factor * value for value in row.values(column)]
        mean = statistics.fmean(values)
        axes.plot(values, [place] * len(values), "o", color="tab:blue", alpha=0.6, markersize=5)
        axes.plot([mean, mean], [place - 0.28, place + 0.28], "-", color="tab:orange", linewidth=2)
    # Dollar signs are no formulas.
    axes.set_yticks(range(len(labels)), [label.replace("$", r"\$") for label in labels], fontsize=9)
    axes.set(
        ylim=(max(len(labels), 1) - 0.5, -0.5),
        xlabel=shown.title.replace("$", r"\$") + (", percent" if shown.factor == 100 else ""),
    )
    axes.set_title("dot: one training; bar: their mean" + ("; hollow: published" if known else ""), fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.axhline(len(known) - 0.5, color="0.8", linewidth=0.8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _column(name: str) -> Column:
    column = column_of(name)
    if column is None:
        raise ValueError(f"unknown column {name!r}")
    return column


def _shown(row: Row, name: str, between: str) -> str:
    column, mean, deviation = _column(name), row.mean(name), row.deviation(name)
    if mean is None:
        return "-"
    text = f"{column.factor * mean:.{column.decimals}f}"
    if deviation is None or column.better == 0:  # time and size are no samples of chance
        return text
    return f"{text}{between}{column.factor * deviation:.{column.decimals}f}"


def _printed(reference: PublishedRow, name: str) -> str:
    value = reference.values.get(name)
    return "-" if value is None else f"{value:.{_column(name).decimals}f}"


def _bold(text: str, bold: bool, pattern: str) -> str:
    return pattern.format(text) if bold else text
