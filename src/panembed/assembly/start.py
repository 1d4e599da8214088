"""Training that starts from a model: its weights, and the images that it has seen before."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from panembed.datasets.part import alike
from panembed.datasets.sample import Dataset
from panembed.datasets.splits import Split
from panembed.errors import ModelError, SettingsError
from panembed.inference.model_config import read_config
from panembed.inference.model_folder import resolve_model_folder
from panembed.settings.schema import Settings

if TYPE_CHECKING:
    from panembed.models.panoptic_net import PanopticNet

logger = logging.getLogger("panembed")

LEARNED_FROM_FILE = "learned_from.json"
"""In the folder of a run that starts from a model: names of the images which that one learned from."""


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
