"""Run all benchmarks and write docs/benchmarks.md: `make bench`; with MODEL=RUN mean shift is also tried on that model's embeddings."""

from __future__ import annotations

import argparse
import datetime
import platform
from pathlib import Path

import torch

from benchmarks import clustering, loss, prediction, quality, training
from panembed.machine.environment import environment
from panembed.models.devices import computes_bfloat16

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="run folder of a leaf model that groups by mean shift")
    parser.add_argument("--output", type=Path, default=DOCS)
    arguments = parser.parse_args()
    images = arguments.output / "images"
    images.mkdir(parents=True, exist_ok=True)
    found = environment()
    bfloat16 = "yes" if computes_bfloat16(torch.device("cpu")) else "no"
    head = f"""# Benchmarks

Written by `make bench{f" MODEL={arguments.model}" if arguments.model else ""}` on {datetime.date.today()}. Candidates take turns in one process; medians.

Machine: {found["processors"]} processors, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, bfloat16 in hardware:
{bfloat16}, {torch.get_num_threads()} threads. Python {found["python"]}, PyTorch {found["packages"]["torch"]}, NumPy {found["packages"]["numpy"]}.

"""
    parts = []
    for name, run in (
        ("loss", lambda: loss.run(images)),
        ("clustering", lambda: clustering.run(images, arguments.model)),
        ("quality", lambda: quality.run(images)),
        ("prediction", lambda: prediction.run(images)),
        ("training", training.run),
    ):
        print(f"measuring {name}", flush=True)
        section = run()
        print(section.markdown(), flush=True)
        parts.append(section.markdown())
        (arguments.output / "benchmarks.md").write_text(head + "\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
