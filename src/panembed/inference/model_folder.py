"""Which folder a model's name stands for, and the models that come with the package.

Each of these is a folder with model.safetensors, config.json and README.md. Nothing here imports PyTorch, so that they
can be listed without it.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from pathlib import Path

from panembed.errors import ModelError

SHIPPED = Path(__file__).parents[1] / "models/shipped"
"""Holds the folders of all shipped models; `tools/ship_model.py` writes there."""


def resolve_model(name: str | os.PathLike[str]) -> Path:
    """What M stands for: a model folder, as `resolve_model_folder` finds it, or an exported file.

    Args:
        name: M of the command line: a path, or the name of a shipped model.

    Raises:
        ModelError: there is none; the nearest shipped name is told.
    """
    path = Path(name)
    return path if path.is_file() else resolve_model_folder(path)


def resolve_model_folder(name: str | os.PathLike[str]) -> Path:
    """The model folder that M stands for: itself, the `model` of a run folder, or a model that comes with the package.

    A model on the disk wins over a shipped one of the same name; any other folder of that name doesn't.

    Args:
        name: M of the command line: a path, or the name of a shipped model.

    Raises:
        ModelError: there is none; the nearest shipped name is told.
    """
    path = Path(name)
    for folder in (path / "model", path):
        if (folder / "config.json").is_file():
            return folder
    if path.suffix.lower() == ".onnx" and path.is_file():
        raise ModelError(
            f"{path}: is an exported network, which predicts and no more; expected the run folder or model folder that "
            "it was made from"
        )
    if (path / "config.yaml").is_file():
        raise ModelError(f"{path}: this run has no model yet; wait for its first validation, or resume it")
    # A folder of photos may well be called leaf.
    if path.exists() and str(path) not in shipped_names():
        raise ModelError(
            f"model {path}: neither a run folder nor a model folder; expected a folder that `panembed train` wrote, or "
            f"one of {', '.join(shipped_names())}"
        )
    return shipped_folder(path)


def shipped_names() -> list[str]:
    """Names of the models that come with the package, in alphabetical order.

    >>> all((SHIPPED / name / "README.md").is_file() for name in shipped_names())
    True
    """
    return sorted(path.parent.name for path in SHIPPED.glob("[!.]*/config.json"))


def shipped_folder(name: str | os.PathLike[str]) -> Path:
    """The folder of a shipped model.

    Raises:
        ModelError: no model of that name comes with the package; the nearest name is told.

    >>> shipped_folder("no-such-model")
    Traceback (most recent call last):
    panembed.errors.ModelError: model no-such-model: ...
    """
    wanted, names = os.fspath(name), shipped_names()
    if wanted in names:
        return SHIPPED / wanted
    trained = "expected a folder that `panembed train` wrote"
    if Path(wanted).name != wanted or not names:
        there = f", or one of {', '.join(names)}" if names else ""
        raise ModelError(f"model {wanted}: no such file or folder; {trained}{there}")
    near = difflib.get_close_matches(wanted.lower(), names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ModelError(
        f"model {wanted}: no such file or folder, nor a shipped model; {trained}, or one of {', '.join(names)}{hint}"
    )


def fingerprint(name: str | os.PathLike[str]) -> str:
    """A text that is another one where the model's weights or settings are others.

    Args:
        name: M of the command line.

    Raises:
        ModelError: there is none.

    >>> fingerprint("leaf") == fingerprint(SHIPPED / "leaf") != fingerprint("nuclei")
    True
    """
    folder = resolve_model(name)
    found = hashlib.sha256()
    files = [folder] if folder.is_file() else [p for p in folder.iterdir() if p.suffix not in (".md", ".png")]
    for path in sorted(path for path in files if path.is_file()):
        found.update(path.name.encode(errors="replace") + b"\0")
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def is_shipped(folder: str | os.PathLike[str]) -> bool:
    """Whether a model folder is the package's own, which nothing may change.

    >>> is_shipped(SHIPPED / "leaf"), is_shipped("runs/leaf/model")
    (True, False)
    """
    return Path(folder).resolve().parent == SHIPPED.resolve()
