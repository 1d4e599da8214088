"""Settings become objects: the only place that knows which name stands for which class.

PyTorch is imported by the functions that need it, so that everything else works without.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from panembed.assembly.compatibility import check_heads, check_size, check_start
from panembed.datasets.part import alike
from panembed.datasets.sample import Dataset
from panembed.datasets.splits import SPLIT_FILE, HasOfficialSplit, Split, make_split
from panembed.errors import InputError, MissingExtraError, ModelError, SettingsError
from panembed.inference.grouping import Grouping
from panembed.inference.preparation import Preparation
from panembed.labels.categories import LabelSet
from panembed.machine.environment import available_cores
from panembed.models.model_folder import resolve_model_folder
from panembed.settings.schema import AugmentationSettings, GroupingSettings, InputSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from accelerate import Accelerator
    from torch import nn

    from panembed.losses.panoptic import PanopticLoss
    from panembed.models.panoptic_net import PanopticNet
    from panembed.training.trainer import Progress, Trainer
    from panembed.training.transforms import Augmentation, TrainingSet

logger = logging.getLogger("panembed")

LEARNED_FROM_FILE = "learned_from.json"
"""In the folder of a run that starts from a model: names of the images which that one learned from."""


def require_torch() -> None:
    """Check that the packages for training and for PyTorch models are there.

    Raises:
        MissingExtraError: names the extra to install.
    """
    try:
        import accelerate  # noqa: F401
        import segmentation_models_pytorch  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"this needs PyTorch and its companions ({error.name} is missing); "
            "install them with: pip install 'panembed[train]'"
        ) from error


def preparation(settings: InputSettings) -> Preparation:
    """How images become the network's input."""
    return Preparation(settings.size, settings.fit, settings.normalization, settings.scale)


def augmentation(settings: AugmentationSettings) -> Augmentation:
    """How training images are changed; `source_scale` is the training set's."""
    from panembed.training.transforms import Augmentation

    return Augmentation(**settings.model_dump(exclude={"source_scale"}))


def grouping(settings: GroupingSettings, label_set: LabelSet) -> Grouping:
    """How embeddings become objects.

    Raises:
        SettingsError: values that don't go together, or a class that isn't a thing of the label set.
    """
    common = settings.model_dump(exclude={"by_class"})
    things = {label_set[index].name: index for index in label_set.things}
    by_class = {}
    for name, values in settings.by_class.items():
        if name not in things:
            near = difflib.get_close_matches(name, things, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingsError(
                f"grouping.by_class: {name!r} is no thing class; expected {', '.join(things) or 'none'}{hint}"
            )
        try:
            by_class[things[name]] = Grouping(**(common | values.model_dump(exclude_none=True) | {"vote": False}))
        except SettingsError as error:
            raise SettingsError(f"grouping.by_class.{name}: {error}") from error
    return Grouping(**common, by_class=by_class)


def network(settings: Settings, label_set: LabelSet, *, pretrained: bool) -> PanopticNet:
    """The network; with `pretrained` its encoder starts from `model.encoder_weights`."""
    from panembed.models.encoder_weights import load_encoder_weights
    from panembed.models.panoptic_net import PanopticNet

    model = settings.model
    net = PanopticNet(
        len(label_set),
        model.embedding_dim,
        architecture=model.architecture,
        encoder=model.encoder,
        attention=model.attention,
        decoder_channels=model.decoder_channels,
        coordinates=model.coordinates,
        anchor_tau=model.anchor_tau,
        seed_head=model.seed_head,
        density=model.density,
        detail_channels=model.detail_channels,
        freeze_encoder=model.freeze_encoder,
        options=model.options,
    )
    if pretrained and model.encoder_weights != "none":
        load_encoder_weights(net.encoder, model.encoder, model.encoder_weights)
    return net


def check(settings: Settings, label_set: LabelSet) -> None:
    """Build what the settings ask for, with random weights, and throw it away.

    Raises:
        SettingsError: they don't go together.
        ModelError: there is no model to start from.
        MissingExtraError: PyTorch is not installed.
    """
    require_torch()
    from panembed.models.encoder_weights import check_source

    if settings.model.start_from is not None:
        check_start(settings, resolve_model_folder(settings.model.start_from))
    else:
        check_source(settings.model.encoder_weights)
    preparation(settings.input)
    augmentation(settings.augmentation)
    grouping(settings.grouping, label_set)
    check_heads(settings)
    check_size(network(settings, label_set, pretrained=False), settings)


def loss(settings: Settings, label_set: LabelSet, class_shares: NDArray[np.float64] | None = None) -> PanopticLoss:
    """Both losses; `class_shares`, of the training pixels, are needed with `loss.class_balance`."""
    from panembed.losses.panoptic import PanopticLoss

    values = settings.loss.model_dump(exclude={"class_balance"})
    weights = None
    if class_shares is not None and settings.loss.class_balance > 0:
        # A class that doesn't occur has no pixels to weigh.
        balanced = np.where(class_shares > 0, class_shares, 1.0) ** -settings.loss.class_balance
        weights = (balanced / balanced.min()).tolist()
    return PanopticLoss(label_set.things, **values, class_weights=weights)


def device(name: str) -> torch.device:
    """The device called cpu, cuda, cuda:1, mps, ...; auto takes the fastest kind there is.

    Raises:
        SettingsError: no such device here.
    """
    import torch

    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found if found is not None else torch.device("cpu")
    try:
        chosen = torch.device(name)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:160]
        raise SettingsError(
            f"--device {name}: not to be had here ({reason}); expected auto, cpu, cuda or mps"
        ) from error
    return chosen


def computes_bfloat16(chosen: torch.device) -> bool:
    """Whether bfloat16 is fast there: on CPUs only with instructions for it, else it is many times slower."""
    import torch

    if chosen.type == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        flags = Path("/proc/cpuinfo").read_text(errors="replace") if Path("/proc/cpuinfo").exists() else ""
        return "AVX512" in capability and ("avx512_bf16" in flags or "amx_bf16" in flags)
    return chosen.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def split_for_training(dataset: Dataset, settings: Settings) -> Split:
    """The data folder's own split, else the one that its kind of data is reported for, else a seeded draw."""
    path = dataset.root / SPLIT_FILE
    if path.exists():
        split = Split.read(path)
        split.check(dataset.ids)
        if not split.train:
            raise InputError(f"{path}: no image is for train; make the split anew")
        return split
    if settings.split.official and isinstance(dataset, HasOfficialSplit):
        return dataset.official_split(settings.split.seed)
    return make_split(dataset.ids, seed=settings.split.seed, fractions=settings.split.fractions)


def learned_before(settings: Settings) -> tuple[str, ...]:
    """Names of the images that the model which training starts from, and those before it, learned from."""
    from panembed.models.pretrained import read_config

    start = settings.model.start_from
    return () if start is None else read_config(resolve_model_folder(start)).learned_from


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
    import torch

    from panembed.models.pretrained import ModelConfig, save_model
    from panembed.training.run_log import RunLog
    from panembed.training.trainer import Trainer
    from panembed.training.validation import Validation

    _check_launcher()
    check_heads(settings)
    label_set, prepare = dataset.label_set, preparation(settings.input)
    training = settings.training
    chosen = device(device_name)
    torch.manual_seed(training.seed)
    checkpoint = run / "checkpoints" / "last.pt"
    # A checkpoint has all weights, so those that the run began with need not be there any more.
    begins = not (resume and checkpoint.exists())
    if begins:
        precision = "bfloat16" if mixed_precision(settings, chosen) == "bf16" else "float32"
        logger.info("on %s, precision %s", chosen, precision)
    net = network(settings, label_set, pretrained=begins and settings.model.start_from is None)
    check_size(net, settings)
    known = run / LEARNED_FROM_FILE
    if not begins and known.is_file():
        seen = tuple(json.loads(known.read_text(encoding="utf-8")))
    else:
        seen = learned_before(settings)
    if begins and settings.model.start_from is not None:
        _load_start(net, settings)
        _warn_of_flattery(settings.model.start_from, seen, dataset, split)
    examples = _training_set(settings, dataset, split, prepare)
    objective = loss(settings, label_set, examples.class_shares(len(label_set)))
    config = {
        "settings": settings.model_dump(mode="json"),
        "categories": label_set.to_list(),
        "split": json.loads(json.dumps(asdict(split))),
    }
    former = () if begins else _former_grouping(run / "model", config["settings"]["grouping"])

    def save_best(best: nn.Module, row: dict[str, float | int]) -> None:
        (run / "model").mkdir(exist_ok=True)
        model = ModelConfig(**config, metrics=dict(row), seen=seen, former_grouping=former)
        save_model(run / "model", best, model)

    return Trainer(
        net,
        objective,
        examples,
        validate=Validation(dataset, split.val, prepare, grouping(settings.grouping, label_set), objective, chosen),
        save_best=save_best,
        checkpoint_path=checkpoint,
        log=RunLog(run, tensorboard=tensorboard),
        accelerator=accelerator(settings, chosen),
        epochs=training.epochs,
        batch_size=training.batch_size,
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


def _load_start(net: PanopticNet, settings: Settings) -> None:
    """Give the network what fits of the weights that `model.start_from` has."""
    from panembed.models.pretrained import load_fitting_weights

    given = settings.model.start_from
    assert given is not None
    start = resolve_model_folder(given)
    check_start(settings, start)
    anew = load_fitting_weights(start, net)
    logger.info("from %s; anew: %s", given, ", ".join(anew) or "nothing")
    if heads := sorted({name.partition(".")[0] for name in anew if not name.startswith(("encoder.", "decoder."))}):
        logger.warning("%s has no %s of this size; they start anew", given, ", ".join(heads))


def _warn_of_flattery(start: str, seen: Sequence[str], dataset: Dataset, split: Split) -> None:
    """Say which images to be scored the model to start from has learned from, by their names."""
    for part in ("val", "test"):
        if shared := alike(split.select(part), seen):
            logger.warning(
                "%d of the %d %s images have the names of images that %s learned from, %s among them; if they are "
                "the same, their scores will flatter; `panembed data split %s --model %s` takes the model's split",
                *(len(shared), len(split.select(part)), part, start, shared[0], dataset.root, start),
            )


def _training_set(settings: Settings, dataset: Dataset, split: Split, prepare: Preparation) -> TrainingSet:
    from panembed.training.transforms import TrainingSet

    try:
        examples = TrainingSet(
            dataset,
            split.train,
            prepare,
            augmentation(settings.augmentation),
            source_scale=settings.augmentation.source_scale,
            seed=settings.training.seed,
        )
    except InputError as error:
        raise InputError(f"{error}; `panembed data check {dataset.root}` names all files with mistakes") from error
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
    from panembed.models.pretrained import read_config

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


def accelerator(settings: Settings, chosen: torch.device) -> Accelerator:
    """What brings network and batches to a device, in the precision that the settings ask for."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # Accelerate keeps the first device and precision for the whole process, a notebook's too.
    AcceleratorState._reset_state(reset_partial_state=True)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
    return Accelerator(mixed_precision=mixed_precision(settings, chosen), cpu=chosen.type == "cpu")


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


def mixed_precision(settings: Settings, chosen: torch.device) -> str:
    """Accelerate's name of the precision that the settings ask for on a device."""
    wanted = settings.training.precision
    if wanted == "auto":
        return "bf16" if computes_bfloat16(chosen) else "no"
    return "bf16" if wanted == "bfloat16" else "no"
