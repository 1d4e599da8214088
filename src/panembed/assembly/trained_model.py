"""A trained model by its folder or name: itself, and what it was trained on.

PyTorch is imported by the functions that need it, so that everything else works without.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from panembed.assembly import build
from panembed.assembly.compatibility import check_effect, check_heads
from panembed.datasets.splits import Split
from panembed.errors import ModelError, SettingsError
from panembed.inference.model_folder import resolve_model_folder
from panembed.inference.predictor import PanopticModel
from panembed.labels.categories import LabelSet
from panembed.settings.schema import Settings, parse_override


def load(name: str | os.PathLike[str], *, device: str = "auto", overrides: Iterable[str] = ()) -> PanopticModel:
    """Load a trained model for prediction.

    Args:
        name: a run folder, a model folder, or the name of a shipped model.
        device: auto, cpu, cuda, ...
        overrides: settings of `input` and `grouping` to take instead of the model's own, such as
            "grouping.clear_border=false"; the folder stays as it is.

    Raises:
        ModelError: missing, damaged, or of another version.
        SettingsError: overrides that are unknown, of the wrong type, or not for this model; or no such device.
        MissingExtraError: PyTorch is not installed.
    """
    build.require_torch()
    from panembed.inference.model_config import read_config
    from panembed.models import devices
    from panembed.models.pretrained import load_weights
    from panembed.models.torch_backend import TorchBackend

    folder = resolve_model_folder(name)
    config = read_config(folder)
    try:
        settings = Settings.from_mapping(config.settings, f"{folder}/config.json")
        label_set = LabelSet.from_list(config.categories)
    except (SettingsError, TypeError) as error:
        raise ModelError(
            f"{folder}/config.json: {error}; the model was written by another version of panembed, use that one"
        ) from error
    if overrides := tuple(overrides):
        settings = settings.changed(overrides)
        check_heads(settings)
        for override in overrides:
            try:
                check_effect(settings, *parse_override(override))
            except SettingsError as error:
                raise SettingsError(f"--set {override!r}: {error}") from error
    net = build.network(settings, label_set, pretrained=False)
    load_weights(folder, net)
    chosen = devices.device(device)
    bfloat16 = chosen.type != "cpu" and devices.computes_bfloat16(chosen)
    return PanopticModel(
        TorchBackend(net.eval(), chosen, bfloat16=bfloat16),
        label_set,
        build.preparation(settings.input),
        build.grouping(settings.grouping, label_set),
    )


def split_of(name: str | os.PathLike[str]) -> Split:
    """The split that a model was trained with."""
    from panembed.inference.model_config import read_config

    folder = resolve_model_folder(name)
    return Split.from_plain(read_config(folder).split, f"{folder}: split")


def seen_before(name: str | os.PathLike[str]) -> tuple[str, ...]:
    """Ids of images that models learned from which this one started from."""
    from panembed.inference.model_config import read_config

    return read_config(resolve_model_folder(name)).seen


def labels_of(name: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the numbers in label images meant to a model, if its settings said so."""
    build.require_torch()
    from panembed.inference.model_config import read_config

    return read_config(resolve_model_folder(name)).settings.get("labels")
