"""What a model folder says of itself: config.json, and its card README.md. Weights: `panembed.models.pretrained`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from panembed.datasets.splits import Split
from panembed.errors import InputError, ModelError, shown
from panembed.inference.learned import is_learned
from panembed.inference.model_folder import is_shipped
from panembed.inference.object_scores import Calibration
from panembed.inference.own_code import is_own
from panembed.io.atomic import write_json, write_text

FORMAT = 1
"""Version of the folder's layout; raised when an older panembed can't read it."""

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"

# Scores in a summary: key, title, factor, decimals. Fractions are shown in percent.
_SHOWN = (
    ("things_pq", "things PQ", 100, 1),
    ("stuff_pq", "stuff PQ", 100, 1),
    ("sbd", "SBD", 100, 1),
    ("abs_dic", "|DiC|", 1, 2),
    ("ap50", "AP50", 100, 1),
)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What config.json holds, besides the format.

    Attributes:
        settings: of the run, as `panembed.settings.schema.Settings` dumps them.
        categories: the classes, as `LabelSet.to_list` gives them.
        split: image ids for training, validation and test.
        metrics: validation figures of these weights; a shipped model has `held_out`, a mapping of scores on test images
            (see `summary`), beside them.
        seen: ids of images that models learned from which this one started from.
        former_grouping: grouping settings that were replaced, oldest first, as `update_grouping` keeps them.
        learned: what the training images were like, see `panembed.inference.learned.Learned.to_plain`; empty where
            nobody knows.
        calibration: what makes probabilities of objects' scores; None where nothing was learned.
    """

    settings: dict[str, Any]
    categories: list[dict[str, Any]]
    split: dict[str, Any]
    metrics: dict[str, Any]
    seen: tuple[str, ...] = ()
    former_grouping: tuple[dict[str, Any], ...] = ()
    learned: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None

    @property
    def learned_from(self) -> tuple[str, ...]:
        """Ids of images that these weights, or those they started from, learned from; sorted."""
        return tuple(sorted({*self.split["train"], *self.seen}))


def config_data(config: ModelConfig) -> dict[str, Any]:
    """What config.json holds, as plain data."""
    data = {
        "format": FORMAT,
        "panembed_version": version("panembed"),
        "categories": config.categories,
        "settings": config.settings,
        "split": config.split,
        "seen": list(config.seen),
        # JSON has no NaN, which is what PQ of stuff is where the label set has none, and no infinity, as a loss may be.
        "metrics": {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in config.metrics.items()},
    }
    if config.learned:
        data["learned"] = config.learned
    if config.former_grouping:
        data["former_grouping"] = list(config.former_grouping)
    if config.calibration is not None:
        data["calibration"] = config.calibration.to_plain()
    return data


def write_config(folder: Path, config: ModelConfig) -> None:
    """Write config.json and the card; each file whole or not at all.

    Raises:
        OutputError: the folder can't be written.
    """
    write_json(folder / CONFIG, config_data(config))
    write_text(folder / CARD, _card(config))


def read_config(place: str | os.PathLike[str]) -> ModelConfig:
    """Read config.json of a model folder, or what an exported file has of it.

    Args:
        place: a model folder, or FILE.onnx.

    Raises:
        ModelError: missing, damaged, or of another version.
    """
    return _config(*_read(Path(place)))


def _read(place: Path) -> tuple[Path, Any]:
    """The file that holds a model's settings, and the plain data in it."""
    if place.is_file():
        # Only here, as it takes time to import.
        from panembed.inference.onnx_file import CONFIG_KEY, read_model, read_settings

        return place, read_settings(place, read_model(place), CONFIG_KEY)
    path = place / CONFIG
    try:
        return path, json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{place}: no {CONFIG} there; expected a model folder, such as RUN/model of a training run"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: damaged or not readable; copy the model folder again") from error


def _config(path: Path, data: Any) -> ModelConfig:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        version = data.get("panembed_version", "unknown") if isinstance(data, dict) else "unknown"
        raise ModelError(
            f"{path}: model format {shown(found)} (written by panembed {str(version)[:40]}), expected {FORMAT}; "
            "use the panembed that wrote it, or train again with this one"
        )
    for key, kind in (("settings", dict), ("categories", list), ("split", dict), ("metrics", dict)):
        if not isinstance(data.get(key), kind):
            raise _damaged_key(path, key)
    try:
        Split.from_plain(data["split"], f"{path}: split")
    except InputError as error:
        raise ModelError(f"{error}; copy the model folder again") from error
    seen, former = data.get("seen", []), data.get("former_grouping", [])
    if not _is_list_of(seen, str):
        raise _damaged_key(path, "seen")
    if not _is_list_of(former, dict):
        raise _damaged_key(path, "former_grouping")
    learned = data.get("learned", {})
    if not is_learned(learned):
        raise _damaged_key(path, "learned")
    calibration = None
    if "calibration" in data:
        try:
            calibration = Calibration.from_plain(data["calibration"])
        except (ValueError, TypeError) as error:
            raise _damaged_key(path, "calibration") from error
    return ModelConfig(
        data["settings"],
        data["categories"],
        data["split"],
        data["metrics"],
        seen=tuple(seen),
        former_grouping=tuple(former),
        learned=learned,
        calibration=calibration,
    )


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _damaged_key(path: Path, key: str) -> ModelError:
    return ModelError(f"{path}: key {key!r} is missing or damaged; copy the model folder again")


def summary(folder: str | os.PathLike[str]) -> str:
    """One line on a model folder: what it segments, its size in MB (10^6 bytes), and its scores on held-out images.

    The scores are shown if metrics of config.json has `held_out`: `images` (a count), and any of `things_pq`,
    `stuff_pq`, `sbd`, `ap50` (fractions) and `abs_dic`.

    Raises:
        ModelError: as `read_config`.
    """
    config = read_config(folder)
    kinds = {
        kind: ", ".join(c["name"] for c in config.categories if bool(c["isthing"]) is isthing)
        for kind, isthing in (("things", True), ("stuff", False))
    }
    parts = [f"{kind} {names}" for kind, names in kinds.items() if names]
    parts.append(f"{sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6:.1f} MB")
    scores = config.metrics.get("held_out", {})
    shown = [
        f"{title} {scores[key] * factor:.{digits}f}"
        for key, title, factor, digits in _SHOWN
        if scores.get(key) is not None
    ]
    if shown:
        parts.append(f"on {scores['images']} held-out images {', '.join(shown)}")
    return "; ".join(parts)


def update_grouping(
    folder: str | os.PathLike[str], values: Mapping[str, float | int | None], found: Mapping[str, Any]
) -> None:
    """Change grouping settings in config.json, in one step; the former ones go to its list `former_grouping`.

    Args:
        folder: a model folder, or an exported file.
        values: new settings by name; all others stay.
        found: plain data on where they come from, kept beside the settings that they replace.

    Raises:
        ModelError: as `read_config`; or the model is the package's own.
        OutputError: the folder can't be written.
    """
    place = Path(folder)
    if is_shipped(place):
        raise ModelError(f"{place}: comes with the package and stays as it is; copy the folder, and change the copy")
    history = list(read_config(place).former_grouping)
    path, data = _read(place)
    former = data["settings"].get("grouping", {})
    data["former_grouping"] = [*history, {"grouping": former, "replaced_for": dict(found)}]
    data["settings"]["grouping"] = former | dict(values)
    _replace(place, path, data)


def _replace(place: Path, path: Path, data: Mapping[str, Any]) -> None:
    """Write what `_read` gave back to where it was."""
    if place.is_file():
        from panembed.inference.onnx_file import CONFIG_KEY, change_metadata

        change_metadata(path, CONFIG_KEY, json.dumps(data))
    else:
        write_json(path, data)


def update_calibration(folder: str | os.PathLike[str], calibration: Calibration) -> None:
    """Keep a calibration of objects' scores in config.json, instead of one that is there.

    Args:
        folder: a model folder, or an exported file.
        calibration: what was learned.

    Raises:
        ModelError: as `read_config`; or the model is the package's own.
        OutputError: the folder can't be written.
    """
    place = Path(folder)
    if is_shipped(place):
        raise ModelError(f"{place}: comes with the package and stays as it is; copy the folder, and change the copy")
    read_config(place)
    path, data = _read(place)
    _replace(place, path, data | {"calibration": calibration.to_plain()})


def input_of(settings: Mapping[str, Any]) -> str:
    """What becomes of an image before the network sees it, in words, from the section `input` of the settings.

    >>> input_of({"fit": "resize", "size": [352, 352]})
    'images stretched to 352 x 352'
    >>> input_of({"fit": "native", "size": [256, 256], "scale": 1.15})
    'images at their own scale times 1.15'
    """
    if settings["fit"] == "resize":
        height, width = settings["size"]
        return f"images stretched to {height} x {width}"
    scale = settings.get("scale", 1.0)
    return "images at their own scale" + ("" if scale == 1 else f" times {scale:g}")


def _figure(key: str, value: float) -> str:
    """As the screen has it: qualities in percent."""
    if math.isnan(value):
        return "-"
    return f"{100 * value:.1f} %" if key.startswith("val_pq") or key == "val_sbd" else f"{value:.4g}"


def _card(config: ModelConfig) -> str:
    settings, model = config.settings, config.settings["model"]
    things = ", ".join(c["name"] for c in config.categories if c["isthing"])
    stuff = ", ".join(c["name"] for c in config.categories if not c["isthing"])
    figures = "\n".join(
        f"| {key} | {_figure(key, value)} |" for key, value in config.metrics.items() if isinstance(value, int | float)
    )
    attention = ", scSE" if model["attention"] else ""
    network = f"{model['architecture']} with encoder {model['encoder']}{attention}"
    if is_own(model["architecture"]):
        module, _, name = model["architecture"].partition(":")
        network = f"{name} of the module {module}, which --allow-module {module} lets panembed import"
    sizes = ", ".join(f"{len(config.split[part])} {part}" for part in ("train", "val", "test"))
    return f"""# A panembed model

{network}, embedding size {model["embedding_dim"]}.
Things: {things or "none"}. Stuff: {stuff or "none"}.
Input: {input_of(settings["input"])}.
Trained with seed {settings["training"]["seed"]} on {sizes} images; the lists are in config.json.

| at the epoch kept | value |
|---|---|
{figures}

Use: `panembed predict --model FOLDER IMAGE... --output DIR`, or `panembed.load("FOLDER").predict("photo.png")`.
"""
