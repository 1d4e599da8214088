"""Prediction of a folder, file to files, against the network's own time."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.timing import Section, ms
from panembed import build
from panembed.cli.predict import predict
from panembed.datasets.synthetic import rosette
from panembed.io.images import write_png


def run(images: Path, model_folder: Path | None) -> Section:
    section = Section(
        "Prediction",
        "`panembed predict` over a folder of 24 synthetic plants at 256x256, from reading the first file to writing the last "
        "(instances, classes, overlay, COCO panoptic, tables; loading the model left out), against the network's forward pass "
        "alone on the same images.",
        ["what", "ms an image"],
    )
    if model_folder is None:
        section.text += " Needs a trained model: `make bench MODEL=runs/leaf`."
        return section
    model = build.load(model_folder)
    count = 24
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        plants = [rosette(seed, size=256).image for seed in range(count)]
        for number, plant in enumerate(plants):
            write_png(photos / f"{number:03}.png", plant)
        network, whole = [], []
        for turn in range(3):
            prepared = [model.preparation.prepare(plant)[None] for plant in plants]
            started = time.perf_counter()
            for array in prepared:
                model.backend(array)
            network.append((time.perf_counter() - started) / count)
            load_started = time.perf_counter()
            build.load(model_folder)
            loading = time.perf_counter() - load_started
            started = time.perf_counter()
            predict(model_folder, [photos], Path(folder) / f"out{turn}")
            whole.append((time.perf_counter() - started - loading) / count)
    bare, total = float(np.median(network)), float(np.median(whole))
    section.rows += [["network alone", ms(bare)], ["file to files", ms(total)]]
    section.bars.append(
        ("file to files at most 1.5 times the network", f"{total / bare:.2f} times", total <= 1.5 * bare)
    )
    sizes = (128, 256, 512, 768, 1024)
    seconds = []
    for size in sizes:
        plant = rosette(1, size=size).image
        model.segment(plant)
        started = time.perf_counter()
        model.segment(plant)
        seconds.append(time.perf_counter() - started)
    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([s * s / 1e6 for s in sizes], [1000 * s for s in seconds], "o-")
    axes.set(xlabel="image area, megapixels", ylabel="ms", ylim=(0, None), title="Prediction against image area")
    figure.savefig(images / "bench_prediction.png", dpi=120)
    section.plots.append("bench_prediction.png")
    return section
