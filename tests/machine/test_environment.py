"""What this process may use of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from panembed.machine import environment


@pytest.mark.parametrize(("text", "expected"), [("1000000\n", 1_000_000), ("max\n", None), (f"{1 << 63}\n", None)])
def test_a_container_may_have_less_memory_than_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int | None
) -> None:
    (tmp_path / "memory.max").write_text(text)
    monkeypatch.setattr(environment, "_MEMORY_LIMITS", (str(tmp_path / "memory.max"), str(tmp_path / "none")))
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert environment.memory() == (expected or machine)
