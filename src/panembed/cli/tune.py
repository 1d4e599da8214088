"""`panembed tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panembed.cli.options import DataFolder, DataFormat, Device, LabelsFile, ModelName, Overwrite, open_data


def tune(
    model: ModelName,
    data: DataFolder,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="where tune.csv goes; by default M/tune, then M/tune-2, ..."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="which images to choose by: val or train")] = "val",
    maximize: Annotated[
        str,
        typer.Option(help="what to make as high as possible: pq_things, sbd, pq or counts (1 - miscounts / objects)"),
    ] = "pq_things",
    trials: Annotated[int | None, typer.Option(min=1, help="stop after this many; by default 200")] = None,
    full_grid: Annotated[
        bool,
        typer.Option("--full-grid", help="try every combination (thousands and more), not one setting after the other"),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="leave the model as it is")] = False,
    format: DataFormat = "auto",
    labels: LabelsFile = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Find better grouping settings for a trained model on its validation images, and store them in the model.

    Tries grouping.seed_bandwidth, bandwidth, min_area and min_confidence (with method seed_map least_seed, own_share
    and, where the network has a density, recount instead of the bandwidths), from the model's own on, and changes what
    gains more than 0.1 point. Writes all trials to tune.csv; the former settings stay in the model's config.json.

    Example: panembed tune --model runs/leaf --data cvppp

    Example: panembed tune --model runs/leaf --data cvppp --maximize counts
    """
    from rich.console import Console

    from panembed import trained_model
    from panembed.cli.console import bar, messages
    from panembed.cli.tables import trials_table
    from panembed.datasets.part import choose_ids
    from panembed.errors import SettingsError
    from panembed.io.output_folder import claim_folder, free_name
    from panembed.io.tables import write_csv
    from panembed.models.pretrained import update_grouping
    from panembed.models.shipped import is_shipped, resolve_model_folder
    from panembed.tuning import CRITERIA, GroupingTuner, coordinate_search, grid_search, ladders

    if split not in ("val", "train"):
        raise SettingsError(
            f"--split {split}: settings chosen on test images would make their test scores worthless; "
            "expected val or train"
        )
    if maximize not in CRITERIA:
        raise SettingsError(f"--maximize {maximize!r} is unknown; expected {', '.join(CRITERIA)}")
    dataset = open_data(data, format, labels, trained_model.labels_of(model))
    loaded = trained_model.load(model, device=device)
    model_folder = resolve_model_folder(model)
    if is_shipped(model_folder) and not (dry_run and output):
        raise SettingsError(
            f"--model {model} comes with the package and stays as it is; copy {model_folder} and tune the copy, "
            "or give --dry-run and --output"
        )
    ids = choose_ids(dataset, split, trained_model.split_of(model), trained_model.seen_before(model))
    folder = claim_folder(output or (model / "tune" if overwrite else free_name(model / "tune")), overwrite=overwrite)
    with bar() as progress:
        task = progress.add_task("network", total=len(ids), note="")
        with GroupingTuner(loaded, dataset, ids, criterion=maximize, each=lambda: progress.advance(task)) as tuner:
            if tuner.num_kept < len(ids):
                messages().print(
                    f"outputs of {tuner.num_kept} of {len(ids)} images fit in memory; the network runs again on the "
                    "others in every trial"
                )
            start, rule = tuner.start, loaded.grouping
            steps = ladders(start, rule.method, rule.second_look, density=tuner.has_density)
            task = progress.add_task("trials", total=trials, note="")

            tried: list[dict[str, float | int | None]] = []

            def score(values: dict[str, float | int | None]) -> float:
                value = tuner.score(values)
                tried.append(values)
                progress.update(task, advance=1, note=f"{maximize} {100 * value:.1f}")
                return value

            try:
                if full_grid:
                    found = grid_search(score, start, steps, max_trials=trials)
                else:
                    found = coordinate_search(score, start, steps, max_trials=trials or 200)
            except KeyboardInterrupt as interruption:
                write_csv(folder / "tune.csv", [{"trial": n, **v, **tuner.figures_of(v)} for n, v in enumerate(tried)])
                raise KeyboardInterrupt(
                    f"the model stays as it is, and {folder / 'tune.csv'} has the {len(tried)} trials so far"
                ) from interruption
            best = [trial for trial in found if trial.kept][-1]
            gain, error = tuner.gain(best.values)
    rows = [
        {"trial": number, **trial.values, **tuner.figures_of(trial.values), "kept": int(trial.kept)}
        for number, trial in enumerate(found)
    ]
    write_csv(folder / "tune.csv", rows)
    names = [name for name, ladder in steps.items() if len(ladder) > 1]
    kept = [row for row in rows if row["kept"]]
    Console(highlight=False).print(trials_table(kept, names, maximize, len(rows), len(ids)))
    said = messages()
    if best.values == start:
        said.print("no settings gain more than 0.1 point; the model stays as it is")
    else:
        if len(ids) > 1:
            doubt = f"standard error {100 * error:.1f} over {len(ids)} images"
        else:
            doubt = "but one image says nothing of others"
        said.print(f"{maximize} {100 * gain:+.1f} points, {doubt}")
        if split == "train":
            said.print("note: the network has learned from these images, so others may need other settings")
        if dry_run:
            said.print("the model stays as it is (--dry-run)")
        else:
            scores = {"split": split, "images": len(ids), "maximize": maximize}
            before, after = tuner.figures_of(start), tuner.figures_of(best.values)
            update_grouping(model_folder, best.values, {**scores, "before": before, "after": after})
            said.print(f"stored in {model_folder / 'config.json'}; the former settings are there as former_grouping")
    said.print(f"tuned on: {split} images; written to {folder}")
