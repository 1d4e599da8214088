"""Errors that a user can cause, each told in one sentence.

The command line prints the sentence and ends with the error's exit code; a program catches `PanembedError`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager


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


class TrainingError(PanembedError):
    """A training that had begun and can't go on: its loss is no number any more, or memory ran out."""


class MissingExtraError(PanembedError):
    """A feature whose optional packages are not installed."""


def printable(text: object) -> str:
    r"""As text that any file can hold: bytes of a file name that are not UTF-8 become escapes.

    >>> printable(b"Bl\xe4tter.png".decode("utf-8", "surrogateescape"))
    'Bl\\udce4tter.png'
    """
    return str(text).encode("utf-8", "backslashreplace").decode()


@contextmanager
def segmenting(name: object) -> Iterator[None]:
    """Have what goes wrong in the block tell of which image it was.

    >>> with segmenting("a.png"):
    ...     raise MemoryError
    Traceback (most recent call last):
    panembed.errors.InputError: a.png: could not be segmented (MemoryError); if memory ran out, make the image smaller
    """
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        # RuntimeError is how PyTorch tells that memory ran out, MemoryError how NumPy does.
        raise not_segmented(name, error) from error


def is_lack_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out; PyTorch tells it by RuntimeErrors, NumPy by MemoryError.

    >>> is_lack_of_memory(MemoryError()), is_lack_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    (True, True)
    >>> is_lack_of_memory(RuntimeError("size mismatch"))
    False
    """
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("out of memory", "not enough memory", "can't allocate memory")
    )


def not_segmented(name: object, error: Exception) -> InputError:
    """What an image's failure of another kind, such as a lack of memory, is told as.

    >>> str(not_segmented("a.png", MemoryError()))
    'a.png: could not be segmented (MemoryError); if memory ran out, make the image smaller'
    """
    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}".removesuffix(": ")
    return InputError(f"{name}: could not be segmented ({reason}); if memory ran out, make the image smaller")


def shown(value: object) -> str:
    """The value as Python writes it, cut short: what a file holds may be endless.

    >>> shown([1, "a/b"])
    "[1, 'a/b']"
    >>> len(shown([["x" * 1000] * 1000] * 1000)) < 20_000
    True
    """
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 200
    short.maxlevel = 3
    return short.repr(value)
