"""`panembed tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panembed.cli.options import (
    AllowModule,
    DataFolder,
    DataFormat,
    Device,
    LabelsFile,
    ModelName,
    Overwrite,
    open_data,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from panembed.datasets.sample import Dataset
    from panembed.tuning.grouping_tuner import GroupingTuner
    from panembed.tuning.search import Values


def tune(
    model: ModelName,
    data: DataFolder,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="where tune.csv goes; by default M/tune, then M/tune-2, ...; of a file M-tune",
        ),
    ] = None,
    split: Annotated[str, typer.Option(metavar="val|train", help="which images to choose by")] = "val",
    maximize: Annotated[
        str,
        typer.Option(
            metavar="SCORE",
            help="what to make as high as possible: pq_things, sbd, pq or counts (1 - miscounts / objects)",
        ),
    ] = "pq_things",
    trials: Annotated[int | None, typer.Option(min=1, metavar="N", help="stop after this many; by default 200")] = None,
    full_grid: Annotated[
        bool,
        typer.Option("--full-grid", help="try every combination (thousands and more), not one setting after the other"),
    ] = False,
    only_scores: Annotated[
        bool, typer.Option("--only-scores", help="leave the settings, and calibrate the objects' scores only")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="leave the model as it is")] = False,
    format: DataFormat = "auto",
    labels: LabelsFile = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    allow_module: AllowModule = None,
) -> None:
    """Find better grouping settings for a trained model on its validation images, and store them in the model.

    Tries grouping.seed_bandwidth, bandwidth, min_area and min_confidence (with method seed_map least_seed, own_share
    and, where the network has a density, recount instead of the bandwidths), from the model's own on, and changes what
    gains more than 0.1 point. Writes all trials to tune.csv; the former settings stay in the model's config.json. Then
    calibrates the objects' scores on the same images: of objects with score 0.8, eight of ten should match.

    Example: panembed tune --model runs/leaf --data cvppp

    Example: panembed tune --model runs/leaf --data cvppp --maximize counts

    Example: panembed tune --model runs/leaf --data cvppp --only-scores
    """
    from rich.console import Console

    from panembed.assembly import trained_model
    from panembed.cli.console import bar, messages
    from panembed.cli.tables import trials_table
    from panembed.datasets.part import choose_ids
    from panembed.datasets.sample import choose_channel
    from panembed.errors import PanembedError
    from panembed.inference.model_folder import resolve_model
    from panembed.inference.own_code import allowing
    from panembed.io.output_folder import claim_folder, free_name
    from panembed.io.tables import write_csv
    from panembed.tuning.grouping_tuner import GroupingTuner
    from panembed.tuning.search import coordinate_search, grid_search, ladders

    _check_options(split, maximize)
    if only_scores:
        _check_only_scores(output, maximize, trials, full_grid=full_grid, dry_run=dry_run, overwrite=overwrite)
    dataset = open_data(data, format, labels, trained_model.labels_of(model))
    with allowing(allow_module or ()):
        loaded = trained_model.load(model, device=device)
    choose_channel(dataset, loaded.preparation.channel)
    place = resolve_model(model)
    if not (dry_run and output):
        _check_may_change(model, place)
    ids = choose_ids(dataset, split, trained_model.split_of(model), trained_model.seen_before(model))
    if only_scores:
        _say_few(len(ids), split)
        _calibrate(model, dataset, ids, split, device, allow_module or ())
        return
    if output is None:
        usual = model.with_name(f"{model.stem}-tune") if model.is_file() else model / "tune"
        output = usual if overwrite else free_name(usual)
    folder = claim_folder(output, overwrite=overwrite)
    _say_few(len(ids), split)
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

            def score(values: Values) -> float:
                value = tuner.score(values)
                progress.update(task, advance=1, note=f"{maximize} {100 * value:.1f}")
                return value

            try:
                if full_grid:
                    found = grid_search(score, start, steps, max_trials=trials)
                else:
                    found = coordinate_search(score, start, steps, max_trials=trials or 200)
                best = [trial for trial in found if trial.kept][-1].values
                gain, error = tuner.gain(best)
            except KeyboardInterrupt as interruption:
                write_csv(folder / "tune.csv", tuner.rows())
                raise KeyboardInterrupt(
                    f"the model stays as it is, and {folder / 'tune.csv'} has the {len(tuner.rows())} trials so far"
                ) from interruption
            except PanembedError:
                write_csv(folder / "tune.csv", tuner.rows())
                raise
    rows = [row | {"kept": int(trial.kept)} for row, trial in zip(tuner.rows(), found, strict=True)]
    write_csv(folder / "tune.csv", rows)
    names = [name for name, ladder in steps.items() if len(ladder) > 1]
    kept = [row for row in rows if row["kept"]]
    Console(highlight=False).print(trials_table(kept, names, maximize, len(rows), len(ids)))
    if best == start:
        messages().print("no settings gain more than 0.1 point; the model stays as it is")
    else:
        _say_gain(maximize, gain, error, len(ids), learned_from=split == "train")
        _store(tuner, best, split, None if dry_run else place)
    if not dry_run:
        _calibrate(model, dataset, ids, split, device, allow_module or ())
    messages().print(f"tuned on: {split} images; written to {folder}")


def _check_options(split: str, maximize: str) -> None:
    from panembed.errors import SettingsError
    from panembed.tuning.grouping_tuner import CRITERIA

    if split not in ("val", "train"):
        raise SettingsError(
            f"--split {split}: settings chosen on test images would make their test scores worthless; "
            "expected val or train"
        )
    if maximize not in CRITERIA:
        raise SettingsError(f"--maximize {maximize!r} is unknown; expected {', '.join(CRITERIA)}")


def _check_only_scores(
    output: Path | None, maximize: str, trials: int | None, *, full_grid: bool, dry_run: bool, overwrite: bool
) -> None:
    from panembed.errors import SettingsError

    given = {
        "--output": output is not None,
        "--maximize": maximize != "pq_things",
        "--trials": trials is not None,
        "--full-grid": full_grid,
        "--dry-run": dry_run,
        "--overwrite": overwrite,
    }
    for option, is_given in given.items():
        if is_given:
            raise SettingsError(f"{option} has no effect with --only-scores; leave it out")


def _calibrate(
    model: Path, dataset: Dataset, ids: Sequence[str], split: str, device: str, allow_modules: Sequence[str]
) -> None:
    from panembed.assembly.calibration import calibrate_model
    from panembed.cli.console import messages

    found = calibrate_model(model, dataset, ids, split, device=device, allow_modules=allow_modules)
    if found is None:
        messages().print("no object is found in these images, so the objects' scores stay as they are")
        return
    told = found.found_on or {}
    messages().print(f"objects' scores calibrated on {told['objects']} objects, {told['matched']} of them right")
    if split == "train":
        messages().print("note: the network has learned from these images, so scores may be somewhat too high")


def _say_few(num_images: int, split: str) -> None:
    from panembed.assembly.training_data import FEW
    from panembed.cli.console import messages
    from panembed.report.tables import counted

    if num_images < FEW:
        part = "validation" if split == "val" else "training"
        messages().print(
            f"note: only {counted(num_images, f'{part} image')}: what is chosen by so few may be chance; label more, "
            "or mark more for this part in split.json"
        )


def _check_may_change(model: Path, place: Path) -> None:
    from panembed.errors import SettingsError
    from panembed.inference.model_folder import is_shipped

    if is_shipped(place):
        raise SettingsError(
            f"--model {model} comes with the package and stays as it is; copy {place} and tune the copy, "
            "or give --dry-run and --output"
        )


def _say_gain(maximize: str, gain: float, error: float, num_images: int, *, learned_from: bool) -> None:
    from panembed.cli.console import messages

    doubt = f"standard error {100 * error:.1f} over {num_images} images"
    if num_images == 1:
        doubt = "but one image says nothing of others"
    messages().print(f"{maximize} {100 * gain:+.1f} points, {doubt}")
    if learned_from:
        messages().print("note: the network has learned from these images, so others may need other settings")


def _store(tuner: GroupingTuner, best: Values, split: str, place: Path | None) -> None:
    """Into the model, if one is given."""
    from panembed.cli.console import messages
    from panembed.inference.model_config import update_grouping

    if place is None:
        messages().print("the model stays as it is (--dry-run)")
        return
    found_on = {"split": split, "images": len(tuner.ids), "maximize": tuner.criterion}
    figures = {"before": tuner.figures_of(tuner.start), "after": tuner.figures_of(best)}
    update_grouping(place, best, {**found_on, **figures})
    where = place if place.is_file() else place / "config.json"
    messages().print(f"stored in {where}; the former settings are there as former_grouping")
