"""Files that are either written whole or not at all.

A run that is killed, or a disk that fills up, must leave the old file or none, never half of one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panembed.errors import OutputError

_REASONS = {
    errno.ENOSPC: "no space is left on the disk; free some or choose another place",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another place",
    errno.EACCES: "permission was denied; choose a place that you may write to",
    errno.EPERM: "permission was denied; choose a place that you may write to",
    errno.EROFS: "the disk can only be read; choose another place",
    errno.EISDIR: "a folder with this name exists; choose another name",
    errno.ENOTDIR: "part of its path is a file, not a folder; choose another place",
    errno.ENOENT: "its folder does not exist; create it first",
    errno.ENAMETOOLONG: "its name is too long for this disk; choose a shorter one",
    errno.EFBIG: "the file is larger than this disk allows; choose another place",
}


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends without an error.

    The temporary file is hidden, lies in the same folder and has the same suffix (writers choose the format by it).
    At the end it is flushed to the disk and renamed; a file that was there before is replaced in one step. When the
    block raises anything, the temporary file is removed and the old file stays as it was.

    Args:
        path: the file to write; its folder must exist.

    Yields:
        The temporary path. The block must create a file there.

    Raises:
        OutputError: the disk is full, writing is not allowed, the folder does not exist, or `path` is a folder. Errors
            of other files, which the block may read, pass as they are.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:40].lstrip('.')}.{secrets.token_hex(4)}{path.suffix}")
    try:
        if not path.parent.is_dir():
            raise OutputError(f"{path}: can't be written, {_REASONS[errno.ENOENT]}")
        if path.is_dir():
            raise OutputError(f"{path}: can't be written, {_REASONS[errno.EISDIR]}")
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        ours = error.filename is None or Path(os.fsdecode(error.filename)) in (temporary, path, path.parent)
        if reason is None or not ours:
            raise
        raise OutputError(f"{path}: can't be written, {reason}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the disk hold the file's content before its name is used."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def write_text(path: str | os.PathLike[str], text: str) -> None:
    r"""Write `text` as UTF-8 with `\n` line ends, whole or not at all.

    Raises:
        OutputError: see `atomic_path`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_text(Path(folder) / "a.txt", "grün\n")
    ...     (Path(folder) / "a.txt").read_bytes().decode()
    'grün\n'
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], data: Any, *, indent: int | None = 2) -> None:
    """Write plain data as strict JSON, whole or not at all.

    Args:
        path: the file.
        data: dicts, lists, str, int, float, bool and None. NaN and infinity, which JSON lacks, are refused.
        indent: spaces a level; None for one line.

    Raises:
        OutputError: see `atomic_path`.
        TypeError: a value isn't plain (NumPy's numbers are not).
        ValueError: a float isn't finite.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder) / "a.json", {"pq": 0.5})
    ...     json.loads((Path(folder) / "a.json").read_text())
    {'pq': 0.5}
    """
    write_text(path, json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")
