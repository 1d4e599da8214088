"""One process at a time, by locks that the system lifts however a process ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from panembed.errors import OutputError


@contextmanager
def file_lock(path: str | os.PathLike[str], *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock on a file, which is made where missing.

    Args:
        path: of the file.
        wait: for another process to end.

    Yields:
        Whether it is ours; with `wait` it always is.

    Raises:
        OutputError: the disk has no locks, or the file can't be made.
    """
    import fcntl

    try:
        file = open(path, "w")  # noqa: SIM115
    except OSError as error:
        raise OutputError(f"{path}: can't be made ({error.strerror}); choose another place") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            ours = True
        except BlockingIOError:
            ours = False
        except OSError as error:
            raise OutputError(
                f"{path}: can't be locked ({error.strerror}); choose an output on a local disk"
            ) from error
        yield ours


@contextmanager
def folder_lock(folder: str | os.PathLike[str], *, seconds: float = 0.0) -> Iterator[bool]:
    """Hold a lock on a folder; nothing is written.

    Args:
        folder: that exists.
        seconds: to wait for another process to end.

    Yields:
        False if another process holds it; True, too, where folders have no locks, as on some network disks.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, folder_lock(folder) as first, folder_lock(folder) as second:
    ...     first, second
    (True, False)
    """
    if find_spec("fcntl") is None:  # on Windows
        yield True
        return
    descriptor = os.open(Path(folder), os.O_RDONLY)
    try:
        end = time.monotonic() + seconds
        while not (ours := _take(descriptor)) and time.monotonic() < end:
            time.sleep(0.1)
        yield ours
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    """Lock a folder; False if another process holds it."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
