"""`panembed evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from panembed.cli.options import (
    AllowModule,
    ChannelName,
    DataFolder,
    DataFormat,
    Device,
    LabelsFile,
    OutputFolder,
    Overwrite,
    PredictionSettings,
    open_data,
    with_channel,
)

if TYPE_CHECKING:
    from panembed.datasets.sample import Dataset
    from panembed.evaluation.predictions.matching import MatchedPredictions
    from panembed.evaluation.scores import Evaluation
    from panembed.inference.preparation import Preparation
    from panembed.results.remarks import Remark

OptionalModel = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        metavar="M",
        help="run folder, model folder, exported file, or name of a shipped model; or give --predictions",
    ),
]
PredictionFiles = Annotated[
    Path | None,
    typer.Option(
        "--predictions",
        metavar="DIR|JSON",
        help="what predict wrote, a COCO panoptic JSON with its PNG folder, or label images named like the inputs",
    ),
]
PredictionFormat = Annotated[
    str,
    typer.Option(
        "--prediction-format",
        metavar="FORMAT",
        help="how --predictions are stored, if auto guesses wrong: coco-panoptic, instances (object numbers, perhaps "
        "with NAME_semantic.png), class-instance (class * 1000 + number)",
    ),
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="count an image without a prediction as empty instead of failing")
]

_NOT_ALWAYS = (
    "oracle.json",
    "oracle.md",
    "worst.png",
    "worst_errors.png",
    "errors.png",
    "reliability.png",
    "report.html",
)
"""Files that not every evaluation writes; those of an earlier one would pass for this one's."""


def evaluate(
    data: DataFolder,
    output: OutputFolder,
    model: OptionalModel = None,
    predictions: PredictionFiles = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="test|val|train|all",
            help="which images; by default test, but all for --predictions where the data have no split",
        ),
    ] = None,
    format: DataFormat = "auto",
    labels: LabelsFile = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    pictures: Annotated[int, typer.Option(min=0, max=50, metavar="N", help="how many of the worst images to draw")] = 6,
    prediction_format: PredictionFormat = "auto",
    allow_missing: AllowMissing = False,
    ap_min_area: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="PIXELS", help="AP ignores smaller true objects; by default 100 for Cityscapes, else 0"
        ),
    ] = None,
    oracle: Annotated[
        bool,
        typer.Option("--oracle", help="also score with true classes and true centres: what better ones could win"),
    ] = False,
    set_: PredictionSettings = None,
    channel: ChannelName = None,
    allow_module: AllowModule = None,
) -> None:
    """Score a model, or the predictions of any tool, against truth.

    Writes metrics.json, per_image.csv, tables (scores.md, scores.tex), the worst images (worst.png; without the
    photographs worst_errors.png), what became of small and large objects (errors.png), and for a model how far its
    scores can be trusted (reliability.png). With --oracle also oracle.json and oracle.md.

    Example: panembed evaluate --model runs/leaf --data cvppp --output runs/leaf/test

    Example: panembed evaluate --predictions results --data cvppp/A1 --output scores
    """
    import panembed
    from panembed.assembly import trained_model
    from panembed.cli.console import bar, messages
    from panembed.datasets.part import choose_ids, has_test
    from panembed.datasets.sample import choose_channel
    from panembed.datasets.source import DataSource
    from panembed.evaluation.known_pictures import known_pictures
    from panembed.evaluation.oracle import evaluate_oracles
    from panembed.evaluation.predictions.matching import match_predictions
    from panembed.evaluation.predictions.stored import open_predictions
    from panembed.evaluation.scores import evaluate_model, evaluate_predictions
    from panembed.io.coco_panoptic import CocoPanopticWriter
    from panembed.labels.panoptic_map import PanopticMap
    from panembed.report.drawing import INSTALL_MATPLOTLIB, can_draw, draw_pictures
    from panembed.results.remarks import sentences

    overrides = with_channel(set_, channel)
    _check_options(model, predictions, device, prediction_format, allow_missing, oracle, overrides)
    labels_of_model = None if model is None else trained_model.labels_of(model)
    dataset = open_data(data, format, labels, labels_of_model)
    known: list[str] = []
    grey: list[tuple[str, Remark]] = []
    oracles: dict[str, dict[str, float | None]] = {}
    with ExitStack() as held:
        with bar() as progress:
            task = progress.add_task("evaluating", total=None, note="")
            kept = CocoPanopticWriter(output, dataset.label_set)

            def each(id: str, prediction: PanopticMap) -> None:
                kept.add(f"{id}{dataset.image_path(id).suffix}", prediction)
                progress.advance(task)

            if model is not None:
                split = split or "test"
                loaded = trained_model.load(model, device=device, overrides=overrides, allow_modules=allow_module or ())
                choose_channel(dataset, loaded.preparation.channel)
                of_model = trained_model.split_of(model)
                ids = choose_ids(dataset, split, of_model, trained_model.seen_before(model))
                folder = _claim(output, overwrite, held)
                progress.update(task, total=len(ids))
                if oracle:
                    evaluation, oracles = evaluate_oracles(
                        loaded, dataset, ids, each, ap_min_area=ap_min_area, num_kept=pictures
                    )
                else:
                    evaluation = evaluate_model(loaded, dataset, ids, each, ap_min_area=ap_min_area, num_kept=pictures)
                new = [id for id in ids if id not in of_model.train]
                known = known_pictures(dataset, new, loaded.learned.get("pictures", ()))
                grey = _seen_as_grey(dataset, ids, loaded.preparation)
            else:
                assert predictions is not None
                split = split or ("test" if has_test(dataset) else "all")
                ids = choose_ids(dataset, split)
                stored = open_predictions(predictions, dataset.label_set, prediction_format)
                matched = match_predictions(stored, dataset, ids, allow_missing=allow_missing)
                folder = _claim(output, overwrite, held)
                progress.update(task, total=len(ids))
                evaluation = evaluate_predictions(
                    matched, dataset, ids, each, ap_min_area=ap_min_area, num_kept=pictures
                )
        scored = (model or predictions or folder).resolve()
        name = scored.name if scored.is_dir() else scored.stem
        kept.close()
        DataSource(data, format, labels, labels_of_model).write(
            folder,
            scored=name,
            part=split,
            channel=None if model is None else loaded.preparation.channel,
            model=None if model is None else str(model),
            predictions=None if predictions is None else str(predictions),
            panembed=panembed.__version__,
        )
        metrics = _write_and_show(evaluation, oracles, overrides, name, folder)
        if known:
            messages().print(
                f"note: {len(known)} of the {len(ids)} images are pictures that the model was trained on, by another "
                f"name, {known[0]} among them; scores on these flatter"
            )
        for sentence in sentences(grey, len(ids)):
            messages().print(f"note: {sentence}")
        if predictions is not None:
            _say_what_was_scored(matched, prediction_format == "auto")
        if can_draw():
            draw_pictures(dataset, evaluation, metrics, folder)
        else:
            messages().print(f"no pictures drawn, as Matplotlib is not installed: {INSTALL_MATPLOTLIB}")
        messages().print(f"scored: {split} images; written to {folder}")


def _seen_as_grey(dataset: Dataset, ids: Sequence[str], preparation: Preparation) -> list[tuple[str, Remark]]:
    """Images that show a single signal in colour, which the network saw as grey without being told to."""
    from panembed.errors import InputError
    from panembed.results.remarks import Remark

    found = []
    for id in ids if preparation.channel == "auto" else ():
        try:
            signal = preparation.signal(dataset.read_image(id))
        except InputError:
            continue  # told when it is scored
        if signal is not None:
            found.append((id, Remark("signal", f"{signal.colors} seen as grey")))
    return found


def _claim(output: Path, overwrite: bool, held: ExitStack) -> Path:
    """The output folder, which is ours until `held` ends, without files that not every evaluation writes."""
    from panembed.io.output_folder import claim_folder, held_folder

    folder = claim_folder(output, overwrite=overwrite)
    held.enter_context(held_folder(folder))
    return claim_folder(folder, overwrite=True, stale=_NOT_ALWAYS)


def _write_and_show(
    evaluation: Evaluation, oracles: dict[str, dict[str, float | None]], overrides: list[str], name: str, folder: Path
) -> dict[str, Any]:
    """All but the pictures: files of figures, and the tables on stdout."""
    from rich.console import Console

    from panembed.cli.console import quality_table
    from panembed.cli.tables import error_table, oracle_table
    from panembed.evaluation.oracle import write_oracles
    from panembed.io.atomic import write_json
    from panembed.report.tables import write_tables

    evaluation.write(folder)
    metrics = evaluation.metrics()
    if oracles:
        metrics["oracle"] = oracles
        write_oracles(folder, oracles)
    if overrides:
        metrics["overrides"] = overrides
    if oracles or overrides:
        write_json(folder / "metrics.json", metrics)
    write_tables(folder, ", ".join([name, *overrides]), metrics)
    said = Console(highlight=False)
    said.print(quality_table(evaluation.quality_result(), metrics, evaluation.label_set))
    if "census" in metrics and metrics["census"]["by_size"]:
        said.print(error_table(metrics["census"]))
    if oracles:
        said.print(oracle_table(oracles))
    return metrics


def _check_options(
    model: Path | None,
    predictions: Path | None,
    device: str,
    prediction_format: str,
    allow_missing: bool,
    oracle: bool,
    overrides: list[str],
) -> None:
    from panembed.errors import SettingsError

    if (model is None) == (predictions is None):
        found = "none" if model is None else "both"
        raise SettingsError(f"evaluate needs --model or --predictions; expected exactly one of them, found {found}")
    unused = {"--device": device != "auto", "--oracle": oracle, "--set": bool(overrides)}
    if predictions is None:
        unused = {"--prediction-format": prediction_format != "auto", "--allow-missing": allow_missing}
    for option, given in unused.items():
        if given:
            other = "--model" if predictions is None else "--predictions"
            raise SettingsError(f"{option} has no effect with {other}; leave it out")


def _say_what_was_scored(matched: MatchedPredictions, guessed: bool) -> None:
    """How the predictions were read, what is missing, and what is left over."""
    from panembed.cli.console import messages

    said, stored = messages(), matched.predictions
    doubt = " (if that is wrong: --prediction-format)" if guessed else ""
    said.print(f"predictions in {stored.source}: {len(stored.names)}, read as {stored.format}{doubt}")
    if matched.missing:
        count = len(matched.missing) + len(matched.place)
        said.print(f"{len(matched.missing)} of {count} images have no prediction and count as empty")
    if matched.strange:
        more = f" and {len(matched.strange) - 1} more" if len(matched.strange) > 1 else ""
        said.print(f"ignored, as no image of the truth has that name: {matched.strange[0]}{more}")
