import os
import platform
import subprocess
import sys

import pytest

# Four rounds of a large array, each freed before the next; the first round's pages are new in any case.
_ROUNDS = """
import resource, sys
import numpy as np
from panembed.machine.allocator import keep_freed_memory

print(keep_freed_memory() if sys.argv[1] == "keep" else False)
np.ones(8_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _rounds(how: str, **environment: str) -> tuple[bool, int]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))}
    clean["NUMPY_MADVISE_HUGEPAGE"] = "0"
    run = subprocess.run(
        [sys.executable, "-c", _ROUNDS, how], env=clean | environment, capture_output=True, text=True, check=True
    )
    kept, faults = run.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_the_system_clears_no_page_twice() -> None:
    _, given_back = _rounds("default")
    kept, again = _rounds("keep")
    assert kept
    assert again < given_back / 10


def test_what_the_user_chose_stays() -> None:
    kept, _ = _rounds("keep", MALLOC_TRIM_THRESHOLD_="131072")
    assert not kept
