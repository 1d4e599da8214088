"""Fair timings: the candidates take turns in one process, and the median counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Section:
    """What one benchmark found.

    Attributes:
        title: of the section.
        text: what was measured, and how.
        columns: of the table.
        rows: of the table.
        bars: (what was asked for, what was seen, whether it was met).
        plots: file names in docs/images.
    """

    title: str
    text: str
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    bars: list[tuple[str, str, bool]] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", self.text, ""]
        if self.rows:
            lines += ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
            lines += ["| " + " | ".join(row) + " |" for row in self.rows] + [""]
        for asked, seen, met in self.bars:
            lines.append(f"- {'met' if met else '**missed**'}: {asked}; seen {seen}")
        lines += [""] + [f"![{self.title}](images/{name})" for name in self.plots]
        return "\n".join(lines) + "\n"


def medians(candidates: Mapping[str, Callable[[], Any]], rounds: int = 7, warmup: int = 1) -> dict[str, float]:
    """Median seconds of each candidate; they run in turn, so that a slow moment of the machine hits all."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(warmup + rounds):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            if number >= warmup:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if seconds < 0.1 else f"{1000 * seconds:.0f}"
