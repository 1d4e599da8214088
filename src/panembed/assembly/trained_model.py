"""A trained model by its folder, file or name: itself, and what it was trained on.

PyTorch is imported where it is needed, and only if ONNX Runtime can't run the model, or a GPU is there to be used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from panembed.assembly import build
from panembed.assembly.compatibility import check_effect, check_heads
from panembed.datasets.splits import Split
from panembed.errors import MissingExtraError, ModelError, SettingsError
from panembed.inference.backend import Backend
from panembed.inference.model_config import ModelConfig, read_config
from panembed.inference.model_folder import resolve_model
from panembed.inference.own_code import allowing
from panembed.inference.predictor import PanopticModel
from panembed.labels.categories import LabelSet
from panembed.machine.environment import may_have_accelerator
from panembed.settings.schema import Settings, parse_override

if TYPE_CHECKING:
    from panembed.models.panoptic_net import PanopticNet

Runtime = Literal["auto", "onnx", "torch"]


def load(
    name: str | os.PathLike[str],
    *,
    device: str = "auto",
    runtime: Runtime = "auto",
    overrides: Iterable[str] = (),
    allow_modules: Iterable[str] = (),
) -> PanopticModel:
    """Load a trained model for prediction.

    Args:
        name: a run folder, a model folder, a file that `panembed export` wrote, or the name of a shipped model.
        device: auto, cpu, cuda, ...; auto takes a GPU, if PyTorch finds one.
        runtime: what runs the network: auto takes ONNX Runtime on a CPU, which is faster there, if the model was
            exported, as shipped ones are, and else PyTorch. Both give the same but for rounding.
        overrides: settings of `input` and `grouping` to take instead of the model's own, such as
            "grouping.clear_border=false"; the folder stays as it is.
        allow_modules: Python modules that the model's network may be imported from; none unless you trust them.

    Raises:
        ModelError: missing, damaged, of another version, or its network is of a module that isn't allowed.
        SettingsError: overrides that are unknown, of the wrong type, or not for this model; or no such device.
        MissingExtraError: PyTorch is needed, and not installed.
    """
    place = resolve_model(name)
    config = read_config(place)
    settings, label_set = read_settings(place, config)
    of_model = settings
    if overrides := tuple(overrides):
        settings = settings.changed(overrides)
        check_heads(settings)
        for override in overrides:
            try:
                check_effect(settings, *parse_override(override))
            except SettingsError as error:
                raise SettingsError(f"--set {override!r}: {error}") from error
    if runtime == "auto":
        runtime = _runtime(place, device)
    backend: Backend
    if runtime == "onnx":
        backend = _onnx_backend(place, config, of_model, label_set)
    else:
        with allowing(allow_modules):
            backend = _torch_backend(place, of_model, label_set, device)
    return PanopticModel(
        backend,
        label_set,
        build.preparation(settings.input),
        build.grouping(settings.grouping, label_set),
        config.calibration,
        learned=config.learned,
    )


def read_settings(place: Path, config: ModelConfig) -> tuple[Settings, LabelSet]:
    """A model's settings and classes, checked.

    Raises:
        ModelError: they are of another version.
    """
    where = place if place.is_file() else place / "config.json"
    try:
        return Settings.from_mapping(config.settings, str(where)), LabelSet.from_list(config.categories)
    except (SettingsError, TypeError) as error:
        raise ModelError(
            f"{where}: {error}; the model was written by another version of panembed, use that one"
        ) from error


def output_channels(settings: Settings, label_set: LabelSet) -> dict[str, int]:
    """Channels of a network's outputs, by the names that they have in an exported one."""
    model = settings.model
    channels = {"classes": len(label_set), "embeddings": model.embedding_dim}
    return channels if model.seed_head is None else channels | {"seeds": 3 if model.density else 2}


def _runtime(place: Path, device: str) -> Literal["onnx", "torch"]:
    from panembed.inference.onnx_file import GRAPH

    has_torch = find_spec("torch") is not None
    if place.is_file():
        if device not in ("auto", "cpu"):
            raise SettingsError(
                f"--device {device}: {place} was exported for the CPU; expected auto or cpu, or its run as --model"
            )
        return "onnx"
    if not (place / GRAPH).is_file():
        if has_torch:
            return "torch"
        raise MissingExtraError(
            f"{place}: was not exported, so PyTorch has to run it, which is not installed; export it where it was "
            f"trained (panembed export --model RUN), or install PyTorch: pip install 'panembed[train]'"
        )
    if device == "cpu" or not has_torch:
        if device not in ("auto", "cpu"):
            raise MissingExtraError(
                f"--device {device} needs PyTorch, which is not installed; leave the option out, or install it: "
                "pip install 'panembed[train]'"
            )
        return "onnx"
    if device == "auto":
        if not may_have_accelerator():
            return "onnx"  # PyTorch is not even asked, as importing it takes seconds
        from panembed.models import devices

        return "onnx" if devices.device("auto").type == "cpu" else "torch"
    return "torch"


def _onnx_backend(place: Path, config: ModelConfig, settings: Settings, label_set: LabelSet) -> Backend:
    from panembed.inference.onnx_backend import OnnxBackend
    from panembed.inference.onnx_file import exported_network, network_beside

    channels = output_channels(settings, label_set)
    if place.is_file():
        return OnnxBackend(exported_network(place, channels=channels), channels)
    return OnnxBackend(network_beside(place, channels=channels, network=config.settings["model"]), channels)


def _torch_backend(place: Path, settings: Settings, label_set: LabelSet, device: str) -> Backend:
    net = network(place, settings, label_set)
    from panembed.models import devices
    from panembed.models.torch_backend import TorchBackend

    chosen = devices.device(device)
    bfloat16 = chosen.type != "cpu" and devices.computes_bfloat16(chosen)
    return TorchBackend(net, chosen, bfloat16=bfloat16)


def network(folder: Path, settings: Settings, label_set: LabelSet) -> PanopticNet:
    """The PyTorch network of a model folder, with its weights, for prediction.

    Raises:
        ModelError: missing or damaged weights.
        MissingExtraError: PyTorch is not installed.
    """
    build.require_torch()
    from panembed.models.pretrained import load_weights

    try:
        net = build.network(settings, label_set, pretrained=False)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    load_weights(folder, net)
    return net.eval()


def split_of(name: str | os.PathLike[str]) -> Split:
    """The split that a model was trained with."""
    place = resolve_model(name)
    return Split.from_plain(read_config(place).split, f"{place}: split")


def seen_before(name: str | os.PathLike[str]) -> tuple[str, ...]:
    """Ids of images that models learned from which this one started from."""
    return read_config(resolve_model(name)).seen


def labels_of(name: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the numbers in label images meant to a model, if its settings said so."""
    return read_config(resolve_model(name)).settings.get("labels")
