"""A model as a folder: model.safetensors, config.json, README.md."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from panembed.errors import ModelError
from panembed.io.atomic import atomic_path, write_json, write_text

FORMAT = 1
"""Version of the folder's layout; raised when an older panembed can't read it."""

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What config.json holds, besides the format.

    Attributes:
        settings: of the run, as `panembed.config.Settings` dumps them.
        categories: the classes, as `LabelSet.to_list` gives them.
        split: image ids for training, validation and test.
        metrics: validation figures of these weights.
    """

    settings: dict[str, Any]
    categories: list[dict[str, Any]]
    split: dict[str, Any]
    metrics: dict[str, Any]


def save_model(folder: Path, network: nn.Module, config: ModelConfig) -> None:
    """Write a model folder; each file whole or not at all.

    Raises:
        OutputError: the folder can't be written.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        # Its own writer would hide whether the disk is full.
        temporary.write_bytes(save(state))
    data = {
        "format": FORMAT,
        "panembed_version": version("panembed"),
        "categories": config.categories,
        "settings": config.settings,
        "split": config.split,
        # JSON has no NaN, which is what PQ of stuff is where the label set has none.
        "metrics": {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in config.metrics.items()},
    }
    write_json(folder / CONFIG, data)
    write_text(folder / CARD, _card(config))


def read_config(folder: str | os.PathLike[str]) -> ModelConfig:
    """Read config.json of a model folder.

    Raises:
        ModelError: missing, damaged, or of another version.
    """
    path = Path(folder) / CONFIG
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{folder}: no {CONFIG} there; expected a model folder, such as RUN/model of a training run"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: damaged or not readable; copy the model folder again") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        version = data.get("panembed_version", "unknown") if isinstance(data, dict) else "unknown"
        raise ModelError(
            f"{path}: model format {found!r} (written by panembed {version}), expected {FORMAT}; "
            "use the panembed that wrote it, or train again with this one"
        )
    for key, kind in (("settings", dict), ("categories", list), ("split", dict), ("metrics", dict)):
        if not isinstance(data.get(key), kind):
            raise ModelError(f"{path}: key {key!r} is missing or damaged; copy the model folder again")
    return ModelConfig(data["settings"], data["categories"], data["split"], data["metrics"])


def update_grouping(
    folder: str | os.PathLike[str], values: Mapping[str, float | int | None], found: Mapping[str, Any]
) -> None:
    """Change grouping settings in config.json, in one step; the former ones go to its list `former_grouping`.

    Args:
        folder: a model folder.
        values: new settings by name; all others stay.
        found: plain data on where they come from, kept beside the settings that they replace.

    Raises:
        ModelError: as `read_config`.
        OutputError: the folder can't be written.
    """
    read_config(folder)
    path = Path(folder) / CONFIG
    data = json.loads(path.read_text(encoding="utf-8"))
    former = data["settings"].get("grouping", {})
    data["former_grouping"] = [*data.get("former_grouping", []), {"grouping": former, "replaced_for": dict(found)}]
    data["settings"]["grouping"] = former | dict(values)
    write_json(path, data)


def load_weights(folder: str | os.PathLike[str], network: nn.Module) -> None:
    """Fill a network with a model folder's weights.

    Raises:
        ModelError: missing, damaged, or of another network.
    """
    try:
        network.load_state_dict(_read_weights(folder))
    except RuntimeError as error:
        raise ModelError(
            f"{Path(folder) / WEIGHTS}: the weights are not of the network that {CONFIG} describes; copy both again"
        ) from error


def load_fitting_weights(folder: str | os.PathLike[str], network: nn.Module) -> list[str]:
    """Fill a network with those weights of a model folder that have its names and shapes, to train on from there.

    Returns:
        Names of the network's weights that were not there, such as heads of other classes; they stay as they are.

    Raises:
        ModelError: missing or damaged weights, or none that fits.
    """
    state = _read_weights(folder)
    own = network.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if not any(value.is_floating_point() for value in fitting.values()):
        raise ModelError(
            f"{Path(folder) / WEIGHTS}: no weight fits the network of the settings; take the same architecture and "
            "encoder"
        )
    network.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def _read_weights(folder: str | os.PathLike[str]) -> dict[str, Tensor]:
    path = Path(folder) / WEIGHTS
    try:
        weights: dict[str, Tensor] = load_file(path)
        return weights
    except FileNotFoundError:
        raise ModelError(f"{folder}: no {WEIGHTS} there; copy the model folder again") from None
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: damaged or not readable; copy the model folder again") from error


def _card(config: ModelConfig) -> str:
    settings, model = config.settings, config.settings["model"]
    things = ", ".join(c["name"] for c in config.categories if c["isthing"])
    stuff = ", ".join(c["name"] for c in config.categories if not c["isthing"])
    figures = "\n".join(
        f"| {key} | {value:.4g} |" for key, value in config.metrics.items() if isinstance(value, int | float)
    )
    attention = ", scSE" if model["attention"] else ""
    sizes = ", ".join(f"{len(config.split[part])} {part}" for part in ("train", "val", "test"))
    return f"""# A panembed model

{model["architecture"]} with encoder {model["encoder"]}{attention}, embedding size {model["embedding_dim"]}.
Things: {things or "none"}. Stuff: {stuff or "none"}.
Input: {settings["input"]["fit"]} {settings["input"]["size"]}.
Trained with seed {settings["training"]["seed"]} on {sizes} images; the lists are in config.json.

| at the epoch kept | on validation images |
|---|---|
{figures}

Use: `panembed predict --model FOLDER IMAGE... --output DIR`, or `panembed.load("FOLDER").predict("photo.png")`.
"""
