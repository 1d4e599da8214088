"""Results of an experiment as files, gathered from the folders of its runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from panembed.experiments.plan import Experiment, Run, read_scores
from panembed.io.atomic import write_json, write_text
from panembed.io.tables import write_csv
from panembed.report.experiment_table import (
    COLUMNS,
    PublishedRow,
    Row,
    figure_of,
    latex_table,
    markdown_table,
    plot_runs,
)
from panembed.report.tables import markdown_text


def write_results(experiment: Experiment, output: Path) -> None:
    """Write results.json, results.csv, table.md, table.tex and plot.png, each whole or not at all.

    They show every run that is done, whoever made it. Figures in results.json and results.csv are as measured:
    fractions, seconds, counts.

    Raises:
        OutputError: the folder can't be written.
        PanembedError: a run's folder is damaged, or was made with other settings.
    """
    columns = list(dict.fromkeys([*COLUMNS, *experiment.shown_columns()]))
    records = [_record(run, experiment.score, columns) for run in experiment.runs(output)]
    done = [record for record in records if record["state"] == "done"]
    rows = [
        Row(variant.name, variant.about, [record for record in done if record["variant"] == variant.name])
        for variant in experiment.variants
    ]
    published = [PublishedRow(r.name, r.source, r.values) for r in experiment.references]
    summary = [
        {
            "variant": row.name,
            "about": row.about,
            "from": variant.from_,
            "runs": len(row.records),
            "mean": {name: row.mean(name) for name in columns},
            "standard_deviation": {name: row.deviation(name) for name in columns},
        }
        for row, variant in zip(rows, experiment.variants, strict=True)
    ]
    data = {"title": experiment.title, "score": experiment.score, "variants": summary, "runs": records}
    data["references"] = [reference.model_dump() for reference in experiment.references]
    write_json(output / "results.json", data)
    write_csv(output / "results.csv", records, columns=["variant", "seed", "state"])
    write_text(output / "table.md", _page(experiment, rows, published, records))
    write_text(output / "table.tex", latex_table(_begun(rows), published, experiment.columns))
    plot_runs(rows, published, experiment.plot, output / "plot.png")


def expected_seconds(runs: Sequence[Run], part: str) -> float | None:
    """How long the trainings that aren't done will take, at the pace of those that are; None before the first.

    A variant that has no run yet counts with the mean over the others.
    """
    spent: dict[str, list[float]] = {}
    waiting = []
    for run in (run for run in runs if run.source is None):
        scores = read_scores(run.folder) if run.state(part) == "done" else None
        if scores is None:
            waiting.append(run.variant)
        else:
            spent.setdefault(run.variant, []).append(scores["train_seconds"])
    if not spent:
        return None
    usual = statistics.fmean(second for seconds in spent.values() for second in seconds)
    return sum(statistics.fmean(spent.get(variant, [usual])) for variant in waiting)


def _record(run: Run, part: str, columns: Sequence[str]) -> dict[str, Any]:
    """A run as one flat row."""
    state = run.state(part)
    record: dict[str, Any] = {"variant": run.variant, "seed": run.seed, "state": state}
    if state == "failed":
        record["failure"] = run.failure()
    scores = read_scores(run.folder) if state == "done" else None
    if scores is not None:
        figures = {**scores["metrics"], **scores}
        record |= {name: figure_of(figures, name) for name in columns}
        record |= {name: scores[name] for name in ("epochs", "best_epoch")}
        record["images"] = scores["metrics"]["images"]
    return record


def _page(
    experiment: Experiment, rows: Sequence[Row], published: Sequence[PublishedRow], records: Sequence[dict[str, Any]]
) -> str:
    done = [record for record in records if record["state"] == "done"]
    begun = _begun(rows)
    lines = [f"# {markdown_text(experiment.title)}", "", markdown_table(begun, published, experiment.columns), ""]
    images = f" of {done[0]['images']} images" if done else ""
    lines.append(
        f"Scored on the {experiment.score} part{images}, at their own size; shares in percent. Mean ± standard "
        "deviation over seeds; bold is better than every other variant by more than the larger of the two deviations."
    )
    notes = [f"- {row.name}: {markdown_text(row.about)}" for row in begun if row.about]
    notes += [
        f"- *{markdown_text(reference.name)}*: published, {markdown_text(reference.source)}" for reference in published
    ]
    if notes:
        lines += ["", *notes]
    for record in records:
        if record["state"] == "failed":
            lines += ["", f"Failed: {record['variant']}, seed {record['seed']}: {record['failure']}"]
    if len(done) < len(records):
        waiting = ", ".join(row.name for row in rows if row not in begun)
        lines += [
            "",
            f"{len(done)} of {len(records)} runs are done." + (f" Without any: {waiting}." if waiting else ""),
        ]
    return "\n".join(lines) + "\n"


def _begun(rows: Sequence[Row]) -> list[Row]:
    """Those with a run that is done: a large experiment is often read when few are."""
    return [row for row in rows if row.records]
