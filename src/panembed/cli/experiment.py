"""`panembed experiment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panembed.cli.options import AllowModule, DataFolder, DataFormat, Device, LabelsFile, OutputFolder, open_data


def experiment(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML with variants of settings, and seeds")],
    data: DataFolder,
    output: OutputFolder,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="VARIANT", help="these variants, and those whose weights they take; can be repeated"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(metavar="N", help="only the first N seeds")] = None,
    format: DataFormat = "auto",
    labels: LabelsFile = None,
    device: Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check everything, print what is done and what is to do, train nothing")
    ] = False,
    allow_module: AllowModule = None,
) -> None:
    """Train and score variants of settings, each with several seeds, and make tables of them.

    The same command goes on with what isn't done yet. Writes results.json, results.csv, table.md, table.tex and
    plot.png after every run; each run has a folder of its own in runs/VARIANT/seed-N.

    Example: panembed experiment experiments/table-a.yaml --data cvppp --output runs/experiments/table-a
    """
    from panembed.cli.console import TrainingProgress, messages
    from panembed.experiments.perform import check, perform
    from panembed.experiments.plan import Experiment
    from panembed.experiments.results import expected_seconds
    from panembed.inference.own_code import allowing
    from panembed.machine.allocator import keep_freed_memory

    asked = Experiment.load(file)
    runs = asked.select(asked.runs(output), only or (), seeds)
    dataset = open_data(data, format, labels, runs[0].settings.labels)
    console = messages()
    advised = {(run.variant, sentence): None for run in runs for sentence in run.settings.advice()}
    for variant, sentence in advised:
        console.print(f"note: {variant}: {sentence}")
    if dry_run:
        with allowing(allow_module or ()):
            check(asked, dataset, output)
        states = [run.state(asked.score) for run in runs]
        for run, state in zip(runs, states, strict=True):
            typer.echo(f"{state:6}  {run}")
        trained = sum(run.source is None for run in runs)
        console.print(
            f"{len(runs)} runs, {trained} of them train: "
            + ", ".join(f"{states.count(state)} {state}" for state in ("done", "begun", "failed", "to do"))
        )
        seconds = expected_seconds(runs, asked.score)
        if seconds:
            console.print(f"about {seconds / 3600:.1f} hours of training are left, at the pace of the runs done")
        return
    keep_freed_memory()
    with allowing(allow_module or ()):
        failed = perform(
            asked,
            dataset,
            output,
            runs,
            device=device,
            progress=lambda run: TrainingProgress(run.settings.training.epochs),
            say=console.print,
        )
    typer.echo((output / "table.md").read_text(encoding="utf-8"), nl=False)
    console.print(f"tables, plot and figures of each run are in {output}")
    if failed:
        console.print(f"{len(failed)} of {len(runs)} runs failed; see {output / 'table.md'}")
        raise typer.Exit(3)
