"""Carry out an experiment: one training after the other, each scored, the results written after each.

Everything is in files, so a second call goes on where the first one ended, however it ended.
"""

from __future__ import annotations

import hashlib
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import panembed
from panembed.assembly import build, trained_model
from panembed.assembly.compatibility import check_effect, check_heads
from panembed.assembly.resume import check_classes
from panembed.assembly.run import train
from panembed.datasets.part import choose_ids
from panembed.datasets.sample import Dataset
from panembed.datasets.splits import SPLIT_FILE, Split, choose_split
from panembed.errors import InputError, OutputError, PanembedError, SettingsError
from panembed.evaluation.scores import evaluate_model
from panembed.experiments.plan import FAILURE_FILE, SCORES_FILE, Experiment, Run, read_scores
from panembed.experiments.results import write_results
from panembed.inference.model_folder import resolve_model_folder
from panembed.inference.predictor import PanopticModel
from panembed.io.atomic import write_json, write_text
from panembed.io.lock import file_lock
from panembed.io.output_folder import claim_folder
from panembed.machine.termination import terminated_as_interrupted

if TYPE_CHECKING:
    from panembed.training.trainer import Progress

EXPERIMENT_FILE = "experiment.yaml"
"""The experiment in its output folder."""

_CONFIG_FILE = "config.yaml"
"""The file of settings that it starts from, if it isn't a preset, in the same place."""

_TIMED_IMAGES = 20


def check(experiment: Experiment, dataset: Dataset, output: Path) -> None:
    """Make sure that every run can begin, and that those in the output folder belong to this experiment and data.

    Raises:
        SettingsError: settings that can't be built, or others than a run there was made with.
        InputError: data without the part that is scored, or with another split than a run there was made with.
        OutputError: the output folder is in use for something else.
    """
    _check_output(experiment, output)
    first, *_ = runs = experiment.runs(output)
    split = choose_split(dataset, **first.settings.split.model_dump())
    if not split.select(experiment.score):
        raise InputError(f"{dataset.root}: no images are for {experiment.score}; choose another part with score:")
    classes = [category.name for category in dataset.label_set]
    for column in experiment.shown_columns():
        named = column.removeprefix("per_class.").rpartition(".")[0]
        if column.startswith("per_class.") and named not in classes:
            raise SettingsError(f"column {column!r}: the data has no class {named!r}; there are {', '.join(classes)}")
    for run in runs:
        if run.seed == first.seed:
            try:
                if run.source is None:
                    build.parts(run.settings, dataset.label_set, weights="check")
                else:
                    build.grouping(run.settings.grouping, dataset.label_set)
                    build.preparation(run.settings.input)
                    check_heads(run.settings)
                for key, value in experiment.changes(run.variant).items():
                    # In training input.size is that of windows, whatever input.fit is.
                    if run.source is not None or key != "input.size":
                        check_effect(run.settings, key.split("."), value)
            except SettingsError as error:
                raise SettingsError(f"variant {run.variant}: {error}") from error
        run.state(experiment.score)
        check_classes(dataset, run.folder)
        if (run.folder / SPLIT_FILE).is_file():
            began = Split.read(run.folder / SPLIT_FILE)
            if any(began.select(part) != split.select(part) for part in ("train", "val", "test")):
                raise InputError(
                    f"{run.folder / SPLIT_FILE}: the run was made with other images, or another split of them, than "
                    f"{dataset.root} has; choose another output"
                )
    _check_common(experiment, [run for run in runs if run.seed == first.seed])


def _check_common(experiment: Experiment, runs: Sequence[Run]) -> None:
    """Refuse a setting of grouping for all variants that none of them heeds."""
    for key, value in experiment.set_.items():
        refusals = []
        for run in runs if key.startswith("grouping.") else ():
            try:
                check_effect(run.settings, key.split("."), value)
            except SettingsError as error:
                refusals.append(error)
        if refusals and len(refusals) == len(runs):
            raise SettingsError(f"set: {refusals[0]}")


def _check_output(experiment: Experiment, output: Path) -> None:
    path = output / EXPERIMENT_FILE
    if not path.is_file():
        if output.exists():
            claim_folder(output, instead=f"the {EXPERIMENT_FILE} of an experiment in it")
        return
    try:
        title = yaml.safe_load(path.read_text(encoding="utf-8"))["title"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError) as error:
        raise OutputError(
            f"{path}: can't be read as what an experiment was asked; put back the file that was there, or choose "
            "another output"
        ) from error
    if title != experiment.title:
        raise OutputError(
            f"{output}: the folder is of the experiment {title!r}, not of {experiment.title!r}; choose another"
        )


def perform(
    experiment: Experiment,
    dataset: Dataset,
    output: Path,
    runs: Sequence[Run],
    *,
    device: str = "auto",
    progress: Callable[[Run], AbstractContextManager[Progress | None]] = lambda run: nullcontext(),
    say: Callable[[str], None] = lambda sentence: None,
) -> list[Run]:
    """Train and score what isn't done yet, one run after the other, and write the results after each.

    A run that another process is at is left to it. A run that fails is noted in its folder, and the others go on.

    Args:
        experiment: that the runs are of.
        dataset: images with truth.
        output: where everything goes; made where missing.
        runs: some or all of `experiment.runs(output)`.
        device: auto, cpu, cuda, ...
        progress: gives what is told of every step of a training.
        say: told what begins, and what failed.

    Returns:
        The runs that failed.

    Raises:
        KeyboardInterrupt: on Ctrl-C or SIGTERM; the run under way and the results so far are saved.
        PanembedError: see `check`; nothing was begun.
    """
    check(experiment, dataset, output)
    claim_folder(output, overwrite=True)
    _write_plan(experiment, output)
    for run in runs:
        try:
            run.folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{run.folder.parent}: can't be made ({error.strerror}); choose another output"
            ) from error
    failed = []
    with terminated_as_interrupted():
        try:
            _write(experiment, output)
            for number, run in enumerate(runs, 1):
                with file_lock(run.folder.with_name(f".{run.folder.name}.lock")) as ours:
                    if not ours:
                        say(f"{run}: another process is at it")
                        continue
                    if run.state(experiment.score) == "done":
                        continue
                    if run.source is not None and not _has_ended(run.source):
                        say(f"{run}: takes its weights from {run.source}, which another process is at")
                        continue
                    say(f"{number} of {len(runs)}: {run}")
                    if not _attempt(run, dataset, experiment.score, device, progress):
                        failed.append(run)
                        say(f"{run} failed: {run.failure()}")
                _write(experiment, output)
        except KeyboardInterrupt as error:
            _write(experiment, output)
            raise KeyboardInterrupt("all is saved, the same command goes on") from error
    return failed


def _attempt(
    run: Run, dataset: Dataset, part: str, device: str, progress: Callable[[Run], AbstractContextManager[Any]]
) -> bool:
    """Train and score; False where that failed, and failure.txt says why."""
    (run.folder / FAILURE_FILE).unlink(missing_ok=True)
    try:
        scores = _train_and_score(run, dataset, part, device, progress)
    except (PanembedError, RuntimeError, ValueError, MemoryError) as error:
        # RuntimeError is how PyTorch tells that memory ran out, MemoryError how NumPy does.
        told = str(error)
        if not isinstance(error, PanembedError):
            told = f"{type(error).__name__}: {told.partition(chr(10))[0]}\n\n{traceback.format_exc()}"
        run.folder.mkdir(parents=True, exist_ok=True)
        write_text(run.folder / FAILURE_FILE, told.rstrip() + "\n")
        return False
    write_json(run.folder / SCORES_FILE, scores)
    return True


def _train_and_score(
    run: Run, dataset: Dataset, part: str, device: str, progress: Callable[[Run], AbstractContextManager[Any]]
) -> dict[str, Any]:
    from panembed.inference.model_config import WEIGHTS, read_config

    if run.source is None:
        begun = run.is_begun()
        with progress(run) as told:
            rows = train(
                run.settings, dataset, run.folder, resume=begun, overwrite=not begun, device=device, progress=told
            )
        trained = {"train_seconds": sum(float(row["seconds"]) for row in rows), "epochs": len(rows)}
        weights = run.folder
    else:
        source = read_scores(run.source)
        if source is None:
            raise InputError(f"{run.source}: the run whose weights this one takes failed; mend that one first")
        trained = {key: source[key] for key in ("train_seconds", "epochs")}
        weights = run.source
    model = trained_model.load(weights, device=device)
    model.grouping = build.grouping(run.settings.grouping, dataset.label_set)
    model.preparation = build.preparation(run.settings.input)
    ids = choose_ids(dataset, part, trained_model.split_of(weights), trained_model.seen_before(weights))
    evaluation = evaluate_model(model, dataset, ids)
    folder = run.folder / part
    folder.mkdir(parents=True, exist_ok=True)
    evaluation.write(folder)
    net = build.network(run.settings, dataset.label_set, pretrained=False)
    return {
        "variant": run.variant,
        "seed": run.seed,
        "from": None if run.source is None else run.source.parent.name,
        "score": part,
        "panembed": panembed.__version__,
        "weights": _digest(resolve_model_folder(weights) / WEIGHTS),
        **trained,
        "best_epoch": read_config(resolve_model_folder(weights)).metrics.get("epoch"),
        "predict_seconds": _seconds_an_image(model, dataset, ids),
        "parameters": sum(p.numel() for p in net.parameters()),
        "trained_parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "metrics": evaluation.metrics(),
        "settings": run.settings.model_dump(mode="json"),
    }


def _digest(path: Path) -> str:
    """SHA-256 of a file, which tells weights apart that were made anew."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seconds_an_image(model: PanopticModel, dataset: Dataset, ids: Sequence[str]) -> float:
    """Median time from pixels to panoptic map, one image after the other, reading not counted."""
    model.segment(dataset.read_image(ids[0]))  # the first call is slower
    spent = []
    for id in ids[:_TIMED_IMAGES]:
        image = dataset.read_image(id)
        started = time.perf_counter()
        model.segment(image)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def _has_ended(folder: Path) -> bool:
    return (folder / SCORES_FILE).is_file() or (folder / FAILURE_FILE).is_file()


def _write_plan(experiment: Experiment, output: Path) -> None:
    """Keep what was asked, with the settings file that it names, so that the folder's own plan can be run again."""
    asked = experiment.model_dump(mode="json", by_alias=True)
    if experiment.config is not None:
        write_text(output / _CONFIG_FILE, Path(experiment.config).read_text(encoding="utf-8"))
        asked["config"] = _CONFIG_FILE
    write_text(output / EXPERIMENT_FILE, yaml.safe_dump(asked, sort_keys=False, allow_unicode=True))


def _write(experiment: Experiment, output: Path) -> None:
    """Write the results; else those of a process that read the folders earlier might replace ours."""
    with file_lock(output / ".results.lock", wait=True):
        write_results(experiment, output)
