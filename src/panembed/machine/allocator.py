"""Memory that a process frees and soon needs again: kept by the process instead of given back to the system."""

from __future__ import annotations

import ctypes
import os
import sys

# The parameters' numbers in glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER = -1
_STEP = 256 * 2**20

_CHOSEN_BY_USER = (
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
)


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed, for the whole process and for good.

    A training step allocates and frees some hundred large tensors. By default glibc takes each from the system and
    gives it back, and the system clears every page anew, which takes a fifth of a step on a CPU and more. Prediction
    gains nothing. For processes of our own that train; a library call never does it. Where another allocator is
    preloaded, or the environment sets these parameters, nothing is changed.

    Returns:
        Whether it was done; False on systems without glibc.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _CHOSEN_BY_USER):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return all(mallopt(*pair) == 1 for pair in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _STEP)))
