"""Places to write results to: never over something that is there, unless asked."""

from __future__ import annotations

import os
from pathlib import Path

from panembed.errors import OutputError


def claim_folder(path: str | os.PathLike[str], *, overwrite: bool = False, instead: str = "--overwrite") -> Path:
    """Make a folder for results.

    Args:
        path: created with its parents where missing.
        overwrite: accept a folder that holds files; those with the same names will be replaced, all others stay.
        instead: what the error says will help.

    Raises:
        OutputError: the folder holds files, its path is a file, or it can't be created.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     claim_folder(Path(folder) / "new" / "place").is_dir()
    True
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not overwrite and any(folder.iterdir()):
            raise OutputError(f"{folder}: the folder is in use; choose another, or allow it with {instead}")
    except (FileExistsError, NotADirectoryError):
        raise OutputError(f"{folder}: a part of this path is a file; expected a folder or a new name") from None
    except OSError as error:
        raise OutputError(f"{folder}: can't be created ({error.strerror}); choose another place") from error
    return folder
