"""Which files are pictures: those that inputs name, and those in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from panembed.errors import InputError
from panembed.io.raster import one_line

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Suffixes of files taken for images in a folder, in lower case; upper case counts too."""


def find_images(inputs: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """List the image files that `inputs` name.

    Args:
        inputs: files, taken whatever their suffix, and folders, whose files with one of `IMAGE_SUFFIXES` are taken.
            Sub-folders and hidden files are not looked at.

    Returns:
        Paths, sorted, each once.

    Raises:
        InputError: one of `inputs` doesn't exist, a folder holds no images, or there are no inputs.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.TIF", "a.png", "notes.txt"):
    ...         (Path(folder) / name).touch()
    ...     [path.name for path in find_images([folder])]
    ['a.png', 'b.TIF']
    """
    found: dict[str, Path] = {}
    given = [Path(item) for item in inputs]
    if not given:
        raise InputError("no images given; expected at least one file or folder")
    for path in given:
        if path.is_dir():
            inside = images_in(path)
            if not inside:
                raise InputError(
                    f"{path}: holds no images; expected files ending in {', '.join(IMAGE_SUFFIXES)} directly inside it"
                )
        elif path.is_file() or path.is_symlink():
            inside = [path]
        else:
            raise InputError(f"{path}: no such file or folder; check the path")
        for file in inside:
            # Links are files of their own: they may have names that the user chose.
            found.setdefault(os.path.abspath(file), file)
    return sorted(found.values())


def images_in(folder: Path) -> list[Path]:
    """Files directly in `folder` with one of `IMAGE_SUFFIXES`, sorted, without hidden ones; perhaps none.

    >>> images_in(Path(__file__).parent)
    []
    """
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: can't be listed ({one_line(error)}); expected a folder of images") from error
    return [p for p in inside if _is_image(p)]


def _is_image(path: Path) -> bool:
    """By its name; a link whose file is missing is one, which can't be read."""
    named = path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    return named and (path.is_file() or (path.is_symlink() and not path.exists()))


def left_aside(inputs: Iterable[Path]) -> list[Path]:
    """Files directly in the folders among `inputs` that are none of `IMAGE_SUFFIXES`, sorted, without hidden ones.

    >>> [path.name for path in left_aside([Path(__file__).parent]) if path.stem == "images"]
    ['images.py']
    """
    folders = [path for path in inputs if path.is_dir()]
    inside = {file for folder in folders for file in folder.iterdir() if file.is_file()}
    return sorted(p for p in inside if p.suffix.lower() not in IMAGE_SUFFIXES and not p.name.startswith("."))
