"""Errors that a user can cause, each told in one sentence.

The command line prints the sentence and ends with the error's exit code; a program catches `PanembedError`.
"""

from __future__ import annotations


class PanembedError(Exception):
    """Something a user can mend: names the file or key, what was found, what was expected, and what to do."""

    exit_code = 1


class SettingsError(PanembedError):
    """A wrong option, settings key or value: nothing was started. Exit code 2."""

    exit_code = 2


class InputError(PanembedError):
    """A file or folder that can't be used as it is."""


class OutputError(PanembedError):
    """A place that can't be written: in use, not allowed, or full."""


class ModelError(PanembedError):
    """A model that can't be loaded, or whose outputs are no numbers."""


class MissingExtraError(PanembedError):
    """A feature whose optional packages are not installed."""


def not_segmented(name: object, error: Exception) -> InputError:
    """What an image's failure of another kind, such as a lack of memory, is told as.

    >>> str(not_segmented("a.png", MemoryError()))
    'a.png: could not be segmented (MemoryError); if memory ran out, make the image smaller'
    """
    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}".removesuffix(": ")
    return InputError(f"{name}: could not be segmented ({reason}); if memory ran out, make the image smaller")
