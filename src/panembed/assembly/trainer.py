"""Settings and data become a trainer: every part of a training run, built once, in the order of use."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panembed.assembly import build
from panembed.assembly.start import LEARNED_FROM_FILE, learned_before, warn_of_flattery
from panembed.assembly.training_data import TrainingData
from panembed.datasets.sample import Dataset, choose_channel
from panembed.datasets.splits import Split
from panembed.errors import InputError, ModelError, SettingsError
from panembed.machine.environment import available_cores
from panembed.settings.schema import Settings

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import nn

    from panembed.inference.preparation import Preparation
    from panembed.training.trainer import Progress, Trainer
    from panembed.training.transforms import Augmentation, TrainingSet

logger = logging.getLogger("panembed")


def trainer(
    settings: Settings,
    dataset: Dataset,
    split: Split,
    run: Path,
    *,
    resume: bool = False,
    device_name: str = "auto",
    tensorboard: bool = False,
    progress: Progress | None = None,
) -> Trainer:
    """Everything a training run needs, writing into the run folder; with `resume` to go on from its checkpoint.

    Raises:
        InputError: an image or label can't be used.
        SettingsError: settings that don't go together.
    """
    build.require_torch()
    import torch

    from panembed.inference.model_config import ModelConfig
    from panembed.models.devices import device, mixed_precision
    from panembed.models.pretrained import save_model
    from panembed.training.run_log import RunLog
    from panembed.training.trainer import Trainer
    from panembed.training.validation import Validation

    _check_launcher()
    label_set, training = dataset.label_set, settings.training
    chosen = device(device_name)
    torch.manual_seed(training.seed)
    checkpoint = run / "checkpoints" / "last.pt"
    # A checkpoint has all weights, so those that the run began with need not be there any more.
    begins = not (resume and checkpoint.exists())
    if begins:
        precision = "bfloat16" if mixed_precision(training.precision, chosen) == "bf16" else "float32"
        logger.info("on %s, precision %s", chosen, precision)
    parts = build.parts(settings, label_set, weights="load" if begins else "random")
    net, prepare = parts.net, parts.prepare
    choose_channel(dataset, prepare.channel)
    known = run / LEARNED_FROM_FILE
    if not begins and known.is_file():
        seen = tuple(json.loads(known.read_text(encoding="utf-8")))
    else:
        seen = learned_before(settings)
    if begins and settings.model.start_from is not None:
        warn_of_flattery(settings.model.start_from, seen, dataset, split)
    data = TrainingData(dataset, prepare)
    examples = _training_set(settings, dataset, split, prepare, parts.augment, data)
    if begins:
        data.warn(split)
    objective = build.loss(settings, label_set, examples.class_shares(len(label_set)))
    config = {
        "settings": settings.model_dump(mode="json"),
        "categories": label_set.to_list(),
        "split": json.loads(json.dumps(asdict(split))),
    }
    learned = data.learned()
    former = () if begins else _former_grouping(run / "model", config["settings"]["grouping"])

    def save_best(best: nn.Module, row: dict[str, float | int]) -> None:
        (run / "model").mkdir(exist_ok=True)
        model = ModelConfig(**config, metrics=dict(row), seen=seen, former_grouping=former, learned=learned)
        save_model(run / "model", best, model)

    return Trainer(
        net,
        objective,
        examples,
        validate=Validation(dataset, split.val, prepare, parts.group, objective, chosen),
        save_best=save_best,
        checkpoint_path=checkpoint,
        log=RunLog(run, tensorboard=tensorboard),
        accelerator=accelerator(training.precision, chosen),
        epochs=training.epochs,
        batch_size=training.batch_size,
        drop_last=training.drop_last,
        skip_limit=training.skip_limit,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        schedule=training.schedule,
        clip_gradient_norm=training.clip_gradient_norm,
        ema_decay=training.ema_decay,
        batch_norm_until=training.batch_norm_until,
        late=() if net.detail is None else tuple(net.detail.parameters()),
        late_from=training.detail_from,
        monitor=training.monitor,
        patience=training.patience,
        validate_every=training.validate_every,
        seed=training.seed,
        num_workers=min(training.num_workers, available_cores()),
        checkpoint_seconds=training.checkpoint_seconds,
        progress=progress,
    )


def _training_set(
    settings: Settings,
    dataset: Dataset,
    split: Split,
    prepare: Preparation,
    augment: Augmentation,
    data: TrainingData,
) -> TrainingSet:
    from panembed.training.transforms import TrainingSet

    try:
        examples = TrainingSet(
            dataset,
            split.train,
            prepare,
            augment,
            source_scale=settings.augmentation.source_scale,
            seed=settings.training.seed,
            each=data.add,
        )
    except InputError as error:
        raise InputError(f"{error}; `panembed data check {dataset.root}` names all files with mistakes") from error
    if examples.num_signals:
        logger.warning(
            "%d of the %d training images show a single signal in colour and are taken as grey; input.channel=rgb "
            "takes colours as they are",
            *(examples.num_signals, len(examples)),
        )
    things = dataset.label_set.things
    if things and not examples.has_objects:
        names = ", ".join(dataset.label_set[index].name for index in things)
        raise InputError(
            f"{dataset.root}: no training image has an object ({names}), so there is nothing to tell objects apart by; "
            f"give every object a number of its own; `panembed data check {dataset.root}` shows what is read"
        )
    return examples


def _former_grouping(model: Path, own: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The grouping settings that a model has had, with those that `panembed tune` stored last, if they are there still.

    They were found for the weights so far, so those of a better epoch begin with the run's own again.
    """
    from panembed.inference.model_config import read_config

    try:
        config = read_config(model)
    except ModelError:
        return ()
    if not config.former_grouping or config.settings.get("grouping") == own:
        return config.former_grouping
    logger.warning(
        "the grouping settings that `panembed tune` stored in %s are of the weights so far; a better epoch brings the "
        "run's own back, and these stay in config.json as former_grouping: tune again after the training",
        model,
    )
    tuned = {"grouping": config.settings.get("grouping", {}), "replaced_for": {"training": "resumed"}}
    return (*config.former_grouping, tuned)


def accelerator(precision: str, chosen: torch.device) -> Accelerator:
    """What brings network and batches to a device, in a precision: float32, bfloat16, or auto."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    from panembed.models.devices import mixed_precision

    # Accelerate keeps the first device and precision for the whole process, a notebook's too.
    AcceleratorState._reset_state(reset_partial_state=True)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
    return Accelerator(mixed_precision=mixed_precision(precision, chosen), cpu=chosen.type == "cpu")


def _check_launcher() -> None:
    """Refuse to be one of several processes; with these variables accelerate would wait for the others."""
    sizes = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    found = [name for name in sizes if os.environ.get(name, "1") != "1"]
    found += ["LOCAL_RANK"] if os.environ.get("LOCAL_RANK", "-1") != "-1" else []
    if found:
        raise SettingsError(
            f"training runs in one process, but {found[0]}={os.environ[found[0]]} says that a launcher started it; "
            "start it without, and choose a device with --device"
        )
