"""Which files are pictures: those that inputs name, and those in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from panembed.errors import InputError
from panembed.io.raster import KINDS, one_line

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Suffixes of files taken for images in a folder, in lower case; upper case counts too."""

UNREAD_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif", ".avif"), "a phone's photograph"),
    **dict.fromkeys((".webp", ".gif", ".jp2", ".jxl", ".tga", ".ppm", ".pgm", ".psd", ".svg", ".exr"), "a picture"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"), "a camera's raw file"),
    **dict.fromkeys(
        (".czi", ".nd2", ".lif", ".lsm", ".oib", ".oif", ".vsi", ".ims", ".zvi", ".dv", ".stk", ".flex", ".lei"),
        "a microscope's file",
    ),
    **dict.fromkeys((".svs", ".ndpi", ".mrxs", ".scn"), "a slide scanner's file"),
    **dict.fromkeys((".dcm", ".nii", ".npy", ".h5", ".hdf5", ".mat", ".zarr"), "an array or a scan"),
    ".pdf": "a document",
}
"""Suffixes of pictures that are not read, in lower case, and what such a file is."""


_MOST_FOLDERS = 1000
"""That are looked into for a hint where images may be."""


def unread(path: Path) -> str:
    """Why a picture of such a kind is not read, and what to do, in one sentence.

    >>> unread(Path("a.HEIC"))
    "a.HEIC: is a phone's photograph, of a kind that is not read; expected PNG, JPEG, BMP or TIFF; export it as such"
    """
    kind = UNREAD_SUFFIXES.get(path.suffix.lower(), "a file of another kind")
    return f"{path}: is {kind}, of a kind that is not read; expected {KINDS}; export it as such"


def is_results(folder: Path) -> bool:
    """Whether `panembed predict` wrote a folder, whose pictures are no photographs.

    >>> is_results(Path(__file__).parent)
    False
    """
    return all((folder / name).is_file() for name in ("summary.csv", "objects.csv", "panoptic.json"))


def without_results(inputs: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Inputs that are neither folders of results nor pictures in them, and those that are.

    What results alone are given is kept, for an error that says so.

    >>> [len(found) for found in without_results([Path("a.png")])]
    [1, 0]
    """
    given = list(inputs)
    results = [p for p in given if is_results(p if p.is_dir() else p.parent)]
    return [p for p in given if p not in results], results


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
            if not inside and (deeper := _first_with_images(path)):
                raise InputError(
                    f"{path}: holds no images directly inside it, but its sub-folders do, {deeper} for one; these "
                    "are not searched; give them as inputs themselves"
                )
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


def _first_with_images(folder: Path) -> Path | None:
    """A folder below that holds images which are no results; hidden folders and links are not entered."""
    walk = os.walk(folder)
    # Enough to find photographs; a whole disk would take minutes for a hint.
    for place, names, files in islice(walk, _MOST_FOLDERS):
        names[:] = sorted(n for n in names if not n.startswith(".") and not is_results(Path(place, n)))
        if Path(place) != folder and any(_is_image(Path(place, name)) for name in files):
            return Path(place)
    return None


def _is_image(path: Path) -> bool:
    """By its name; a link whose file is missing is one, which can't be read."""
    named = path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    return named and (path.is_file() or (path.is_symlink() and not path.exists()))


def sub_folders(folder: Path) -> list[Path]:
    """Folders in a folder and in those, sorted, without hidden ones and what links lead to.

    >>> sub_folders(Path(__file__).parent / "nowhere")
    []
    """
    found = [path for path in folder.rglob("*/") if path.is_dir() and not path.is_symlink()]
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def unread_pictures(folder: Path) -> list[Path]:
    """Files directly in a folder whose names are those of pictures or micrographs of kinds that are not read, sorted.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.HEIC", "a.png", "notes.txt"):
    ...         (Path(folder) / name).touch()
    ...     [path.name for path in unread_pictures(Path(folder))]
    ['b.HEIC']
    """
    if not folder.is_dir():
        return []
    named = (path for path in folder.iterdir() if path.suffix.lower() in UNREAD_SUFFIXES)
    return sorted(path for path in named if not path.name.startswith(".") and not path.is_dir())


def left_aside(inputs: Iterable[Path]) -> list[Path]:
    """Files directly in the folders among `inputs` that are none of `IMAGE_SUFFIXES`, sorted, without hidden ones.

    >>> [path.name for path in left_aside([Path(__file__).parent]) if path.stem == "images"]
    ['images.py']
    """
    folders = [path for path in inputs if path.is_dir()]
    inside = {file for folder in folders for file in folder.iterdir() if file.is_file()}
    return sorted(p for p in inside if p.suffix.lower() not in IMAGE_SUFFIXES and not p.name.startswith("."))
