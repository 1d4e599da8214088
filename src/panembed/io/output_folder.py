"""Places to write results to: never over something that is there, unless asked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from panembed.errors import OutputError
from panembed.io.lock import folder_lock

_LEFTOVER = re.compile(r"\..*\.[0-9a-f]{8}(\.\w+)?")
"""What `panembed.io.atomic.atomic_path` calls a file before it is whole."""


def claim_folder(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    instead: str = "--overwrite",
    inputs: Iterable[Path] = (),
    stale: Iterable[str] = (),
) -> Path:
    """Make a folder for results.

    Args:
        path: created with its parents where missing.
        overwrite: accept a folder that holds files; those with the same names will be replaced, all others stay.
        instead: what the error says will help.
        inputs: files that will be read; their folders are refused, as results might replace them, or be read as inputs.
        stale: names of files to remove, which an earlier call may have written and this one may not.

    Raises:
        OutputError: the folder holds files or inputs, its path is a file, or it can't be created.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     claim_folder(Path(folder) / "new" / "place").is_dir()
    True
    """
    folder = Path(path)
    if folder.resolve() in {file.resolve().parent for file in inputs} | {file.parent.resolve() for file in inputs}:
        raise OutputError(f"{folder}: holds the images that are to be read; choose another folder for the results")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not overwrite and any(folder.iterdir()):
            raise OutputError(f"{folder}: holds files already; choose another folder, or allow it with {instead}")
        for name in stale:
            (folder / name).unlink(missing_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise OutputError(f"{folder}: a part of this path is a file; expected a folder or a new name") from None
    except OSError as error:
        raise OutputError(f"{folder}: can't be created ({error.strerror}); choose another place") from error
    return folder


@contextmanager
def held_folder(folder: Path, doing: str = "writes") -> Iterator[None]:
    """Keep other processes from writing into a folder of results while the block runs.

    Args:
        folder: that exists.
        doing: what another process may be doing there, for the error message.

    Raises:
        OutputError: another process is at it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, held_folder(Path(folder)):
    ...     with held_folder(Path(folder), "predicts"):
    ...         pass
    Traceback (most recent call last):
    panembed.errors.OutputError: ...: another process predicts there; wait for its end, or choose another folder
    """
    with folder_lock(folder) as ours:
        if not ours:
            raise OutputError(f"{folder}: another process {doing} there; wait for its end, or choose another folder")
        yield


def leftovers(folder: Path) -> list[Path]:
    """Files below a folder that a process which was killed had begun to write.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in (".a.0123abcd.png", ".hidden", "a.png"):
    ...         _ = (Path(folder) / name).write_text("")
    ...     [path.name for path in leftovers(Path(folder))]
    ['.a.0123abcd.png']
    """
    return [path for path in folder.rglob(".*") if path.is_file() and _LEFTOVER.fullmatch(path.name)]


def free_name(path: str | os.PathLike[str]) -> Path:
    """The path, or the first of PATH-2, PATH-3, ... that is not there yet or an empty folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "tune").write_text("taken")
    ...     free_name(Path(folder) / "tune").name
    'tune-2'
    """
    path = Path(path)
    candidate, number = path, 1
    while candidate.exists() and not (candidate.is_dir() and not any(candidate.iterdir())):
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
