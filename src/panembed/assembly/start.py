"""Training that starts from a model: its weights, and the images that it has seen before."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panembed.datasets.part import alike
from panembed.datasets.sample import Dataset
from panembed.datasets.splits import Split
from panembed.errors import ModelError, SettingsError
from panembed.inference.model_config import read_config
from panembed.inference.model_folder import resolve_model_folder
from panembed.inference.own_code import is_own, module_of
from panembed.settings.schema import ModelSettings, Settings

if TYPE_CHECKING:
    from panembed.models.panoptic_net import PanopticNet

logger = logging.getLogger("panembed")

LEARNED_FROM_FILE = "learned_from.json"
"""In the folder of a run that starts from a model: names of the images which that one learned from."""

ARCHITECTURE = (
    *("architecture", "encoder", "attention", "decoder_channels", "options", "detail_channels", "coordinates"),
    *("embedding_dim", "anchor_tau", "seed_head", "density"),
)
"""Settings of `model` that decide which weights there are, and what they mean."""


def keep_architecture(
    settings: Settings, chosen: Collection[str], began: Settings | None = None
) -> tuple[Settings, list[str]]:
    """Have the network be that of `model.start_from`, so that all of its weights are of use.

    Args:
        settings: without `model.start_from` they stay as they are.
        chosen: keys of `model` that the user set; these stay, whatever the model to start from has.
        began: the settings of the run that is resumed; the model that it started from is not looked at again.

    Returns:
        The settings, and sentences on what was taken over, and on what was chosen otherwise.

    Raises:
        ModelError: there is no such model, or it can't be read.
    """
    start, ours = settings.model.start_from, settings.model
    if start is None:
        return settings, []
    theirs = _model_settings(start) if began is None else began.model
    others = {key: getattr(theirs, key) for key in ARCHITECTURE if getattr(theirs, key) != getattr(ours, key)}
    taken = {key: value for key, value in others.items() if key not in chosen}
    said = []
    if taken:
        told = ", ".join(f"model.{key} {_told(value)}" for key, value in taken.items())
        said.append(f"the network is that of {start}, so not as the preset says: {told}")
    for key in others.keys() - taken.keys() - {"encoder"}:  # of another encoder `check_start` tells
        said.append(
            f"model.{key} is {_told(getattr(ours, key))} as you set it, but {start} has {_told(others[key])}; what "
            "depends on it starts anew or means something else; leave it out to keep the model's"
        )
    if began is None and (sentence := _other_input(start, settings)):
        said.append(sentence)
    data = settings.model_dump(mode="json")
    data["model"] |= {key: theirs.model_dump(mode="json")[key] for key in taken}
    return Settings.from_mapping(data), [] if began is not None else said


def without_encoder(settings: Settings, chosen: Collection[str]) -> Settings:
    """Where the network is one's own: without what a preset says of encoders of segmentation_models_pytorch.

    Args:
        settings: of another network they stay as they are.
        chosen: keys of `model` that the user set.

    Raises:
        SettingsError: one of them has no effect.
    """
    if not is_own(settings.model.architecture):
        return settings
    module_of(settings.model.architecture)
    none: dict[str, Any] = {"encoder": "none", "attention": None, "decoder_channels": None}
    model = settings.model.model_dump(mode="json")
    for key, value in none.items():
        if key in chosen and model[key] != value:
            raise SettingsError(
                f"model.{key} has no effect on a network of your own ({settings.model.architecture}); leave it out"
            )
    if "encoder_weights" not in chosen:
        none |= {"encoder_weights": "none"} | ({} if "freeze_encoder" in chosen else {"freeze_encoder": False})
    elif settings.model.encoder_weights in ("imagenet", "packaged"):
        raise SettingsError(
            f"model.encoder_weights={settings.model.encoder_weights} has no effect on a network of your own "
            f"({settings.model.architecture}); give a file of its weights, or leave it out"
        )
    data = settings.model_dump(mode="json")
    data["model"] |= none
    return Settings.from_mapping(data)


def _told(value: object) -> str:
    return "none" if value is None else str(list(value) if isinstance(value, tuple) else value)


def _settings_of(start: str) -> Settings:
    folder = resolve_model_folder(start)
    try:
        return Settings.from_mapping(read_config(folder).settings, f"{folder}/config.json")
    except SettingsError as error:
        raise ModelError(
            f"{error}; the model was written by another version of panembed, so training can't start from it"
        ) from error


def _model_settings(start: str) -> ModelSettings:
    return _settings_of(start).model


def _other_input(start: str, settings: Settings) -> str | None:
    """A sentence where the weights would see other colours than they learned from."""
    theirs, ours = _settings_of(start).input.normalization, settings.input.normalization
    if theirs == ours:
        return None
    return f"input.normalization is {ours}, but {start} was trained with {theirs}; --set input.normalization={theirs}"


def learned_before(settings: Settings) -> tuple[str, ...]:
    """Names of the images that the model which training starts from, and those before it, learned from."""
    start = settings.model.start_from
    return () if start is None else read_config(resolve_model_folder(start)).learned_from


def check_start(settings: Settings, folder: Path) -> None:
    """Check that a model to start from has the settings' encoder, else that would stay random.

    Args:
        settings: with `model.start_from`.
        folder: of that model.

    Raises:
        SettingsError: it has another encoder.
        ModelError: it can't be read.
    """
    try:
        theirs, ours = read_config(folder).settings["model"]["encoder"], settings.model.encoder
    except (KeyError, TypeError):
        raise ModelError(f"{folder}: its config.json doesn't say the encoder; copy the model folder again") from None
    if theirs != ours:
        raise SettingsError(
            f"model.start_from: {settings.model.start_from} has the encoder {theirs}, but model.encoder is {ours}, "
            f"which would start from random weights; add --set model.encoder={theirs}, or leave start_from out"
        )


def load_start(net: PanopticNet, name: str) -> None:
    """Give the network what fits of the weights of the model called `name`, and say what starts anew."""
    from panembed.models.pretrained import load_fitting_weights

    anew = load_fitting_weights(resolve_model_folder(name), net)
    logger.info("from %s; anew: %s", name, ", ".join(anew) or "nothing")
    if heads := sorted({part.partition(".")[0] for part in anew if not part.startswith(("encoder.", "decoder."))}):
        logger.warning("%s has no %s of this size; they start anew", name, ", ".join(heads))


def warn_of_flattery(start: str, seen: Sequence[str], dataset: Dataset, split: Split) -> None:
    """Say which images to be scored the model to start from has learned from, by their names."""
    for part in ("val", "test"):
        if shared := alike(split.select(part), seen):
            logger.warning(
                "%d of the %d %s images have the names of images that %s learned from, %s among them; if they are "
                "the same, their scores will flatter; `panembed data split %s --model %s` takes the model's split",
                *(len(shared), len(split.select(part)), part, start, shared[0], dataset.root, start),
            )
