"""Store what the shipped models give on three pictures each, for `panembed info --check` and the tests.

For maintainers, when a change of the code or the weights is meant to change results:

    python tools/store_outputs.py

Nuclei are held-out sample images (CC0), rosettes are drawings; photographs of leaves may not be published.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panembed.assembly import trained_model
from panembed.datasets.samples import sample_nuclei
from panembed.datasets.splits import SPLIT_FILE, Split
from panembed.datasets.synthetic import rosette
from panembed.evaluation.model_check import store_outputs
from panembed.inference.model_folder import SHIPPED, shipped_names

SIDE = 256
"""Of the pictures; larger ones are cut."""


def nuclei() -> dict[str, NDArray[np.uint8]]:
    """Three held-out sample images, two fluorescent and one stained where there are such."""
    dataset = sample_nuclei()
    ids = Split.read(dataset.root / SPLIT_FILE).test
    coloured = {id: float(np.ptp(dataset.read_image(id).astype(int), axis=2).mean()) for id in ids}
    ordered = sorted(ids, key=lambda id: coloured[id])
    chosen = (ordered[0], ordered[1], ordered[-1])
    return {f"nuclei-{number}": dataset.read_image(id)[:SIDE, :SIDE] for number, id in enumerate(chosen, 1)}


def rosettes() -> dict[str, NDArray[np.uint8]]:
    """Three drawn plants."""
    return {f"rosette-{seed}": rosette(seed, size=SIDE).image for seed in (1, 2, 3)}


PICTURES = {"nuclei": nuclei, "leaf": rosettes}


def main() -> None:
    """Store the outputs of every shipped model."""
    for name in shipped_names():
        store_outputs(trained_model.load(name, device="cpu"), PICTURES[name](), SHIPPED / name)


if __name__ == "__main__":
    main()
