"""`panembed train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panembed.cli.options import (
    AllowModule,
    DataFolder,
    DataFormat,
    Device,
    LabelsFile,
    OutputFolder,
    Overwrite,
    open_data,
)


def train(
    data: DataFolder,
    output: OutputFolder,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="settings that come with panembed: leaf, nuclei, crop-weed, cityscapes, demo, thesis-cvppp, "
            "thesis-cityscapes (the last two also with -scse)",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="settings from a YAML file")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="change one setting, such as training.epochs=50; can be repeated; `panembed info --settings` lists "
            "the keys",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="short for --set training.seed=N")] = None,
    format: DataFormat = "auto",
    labels: LabelsFile = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in the output folder")] = False,
    overwrite: Overwrite = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="check settings, classes and split, and print the settings; no image is read, no weight fetched",
        ),
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="also write TensorBoard events")] = False,
    allow_module: AllowModule = None,
) -> None:
    """Train a network on a folder of labelled images.

    Example: panembed train --preset leaf --data cvppp --output runs/leaf
    """
    from panembed.assembly import run
    from panembed.assembly.compatibility import check_effect
    from panembed.assembly.start import keep_architecture, without_encoder
    from panembed.cli.console import TrainingProgress, messages
    from panembed.datasets.source import DataSource
    from panembed.datasets.splits import SPLIT_FILE, Split
    from panembed.errors import SettingsError
    from panembed.inference.own_code import allowing, is_own, module_of
    from panembed.machine.allocator import keep_freed_memory
    from panembed.settings.keys import keys_of
    from panembed.settings.schema import Settings, parse_override

    if resume and overwrite:
        raise SettingsError("--resume goes on with a run and --overwrite begins it anew; give one of them")
    began = output / "config.yaml"
    if resume and not began.is_file():
        raise SettingsError(f"--resume: {output} holds no run to go on with (no {began.name}); start it without")
    if resume and preset is None and config is None:
        config = began
    overrides = [*(set_ or []), *([] if seed is None else [f"training.seed={seed}"])]
    settings = Settings.load(preset, config, overrides)
    for path, value in map(parse_override, overrides):
        if path[0] == "grouping":
            check_effect(settings, path, value)
    asked = keys_of("model", overrides) | (settings.model.model_fields_set if preset is None else set())
    settings, said = keep_architecture(settings, asked, Settings.load(config=began) if resume else None)
    settings = without_encoder(settings, asked)
    trusted = list(allow_module or ())
    if "architecture" in keys_of("model", overrides) and is_own(settings.model.architecture):
        # Who typed the name need not say it again; a file of settings, or a model, may be a stranger's.
        trusted.append(module_of(settings.model.architecture))
    for sentence in (*said, *settings.advice()):
        messages().print(f"note: {sentence}")
    dataset = open_data(data, format, labels, settings.labels)
    if dry_run:
        with allowing(trusted):
            split = run.rehearse(settings, dataset)
        typer.echo(settings.to_yaml(), nl=False)
        messages().print(
            f"{len(split.train)} training, {len(split.val)} validation and {len(split.test)} test images, "
            f"classes {', '.join(c.name for c in dataset.label_set)}"
        )
        return
    keep_freed_memory()
    with allowing(trusted), TrainingProgress(settings.training.epochs) as progress:
        rows = run.train(
            settings,
            dataset,
            output,
            resume=resume,
            overwrite=overwrite,
            device=device,
            tensorboard=tensorboard,
            progress=progress,
            source=DataSource(data, format, labels, settings.labels),
        )
    epochs = "1 epoch" if len(rows) == 1 else f"{len(rows)} epochs"
    messages().print(
        f"trained {epochs}{_kept(output, settings.training.monitor)}; model in {output / 'model'}, curves in "
        f"{output / 'curves.png'}"
    )
    split = Split.read(output / SPLIT_FILE)
    if part := next((part for part in ("test", "val") if split.select(part)), None):
        chosen = "" if part == "test" else f" --split {part}"
        messages().print(f"next: panembed evaluate --model {output} --data {data}{chosen} --output {output / part}")


def _kept(run: Path, monitor: str) -> str:
    """Which epoch's weights the model has, and why."""
    from panembed.inference.model_config import read_config

    metrics = read_config(run / "model").metrics
    value = metrics.get(monitor)
    if "epoch" not in metrics:
        return ""
    if value is None:
        return f", kept epoch {metrics['epoch']}"
    names = {"val_pq_things": "things PQ", "val_pq": "PQ", "val_loss": "loss"}
    told = f"{100 * value:.1f}" if monitor != "val_loss" else f"{value:.3f}"
    return f", kept epoch {metrics['epoch']} (best {names[monitor]} on validation, {told})"
