"""Prediction of a folder, file to files, against the network's own time."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.timing import Section, ms
from panembed.assembly import trained_model
from panembed.datasets.synthetic import rosette
from panembed.inference.predictor import PanopticModel
from panembed.io.images import read_image, write_png
from panembed.results.prediction_folder import PredictionFolder

_COUNT = 24
_TURNS = 5


def run(images: Path) -> Section:
    section = Section(
        "Prediction",
        f"A folder of {_COUNT} images as `panembed predict` does it, from reading the first file to writing the last (instances, "
        "classes, overlay, COCO panoptic, tables; loading the model left out), against the network's forward pass alone on the "
        f"same images. The shipped `leaf`, which sees images at 352x352. Both take turns {_TURNS} times; medians, of the ratio too.",
        ["images", "network alone, ms an image", "file to files, ms an image", "ratio"],
    )
    model = trained_model.load("leaf")
    with tempfile.TemporaryDirectory() as folder:
        plants = []
        for number in range(_COUNT):
            plants.append(Path(folder) / f"{number:03}.png")
            write_png(plants[-1], rosette(number, size=256).image)
        bare, total, ratio = _turns(model, plants)
    section.rows.append(["synthetic plants, 256x256", ms(bare), ms(total), f"{ratio:.2f}"])
    section.bars.append(("file to files at most 1.5 times the network", f"{ratio:.2f} times", ratio <= 1.5))
    photos = sorted((Path(os.environ.get("PANEMBED_DATA", "none")) / "cvppp" / "A1").glob("*_rgb.png"))[:_COUNT]
    if photos:
        bare, total, ratio = _turns(model, photos)
        section.rows.append(["CVPPP A1, 500x530", ms(bare), ms(total), f"{ratio:.2f}"])
        section.bars.append(("A1 at most 0.35 s an image", f"{total:.3f} s", total <= 0.35))
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


def _turns(model: PanopticModel, files: list[Path]) -> tuple[float, float, float]:
    """Seconds an image of the network alone, and of file to files; and their ratio."""
    prepared = [model.preparation.prepare(read_image(path))[None] for path in files]
    times: list[tuple[float, float]] = []
    for _ in range(_TURNS + 1):
        started = time.perf_counter()
        for array in prepared:
            model.backend(array)
        between = time.perf_counter()
        with tempfile.TemporaryDirectory() as output:
            with PredictionFolder(Path(output), model.label_set) as predictions:
                for path, result in model.predict_files(files):
                    predictions.add(path, result)
            ended = time.perf_counter()
        times.append(((between - started) / len(files), (ended - between) / len(files)))
    bare, total = np.array(times[1:]).T
    return float(np.median(bare)), float(np.median(total)), float(np.median(total / bare))
