"""Panoptic Quality on arrays and on files. `python -m benchmarks.quality` prints this section alone."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
from hotcoco.panoptic import pq_compute
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from benchmarks.timing import Section, medians, ms
from panembed.datasets.layout import open_dataset
from panembed.evaluation.predictions.coco import CocoPredictions
from panembed.evaluation.predictions.matching import match_predictions
from panembed.evaluation.predictions.stored import open_predictions
from panembed.evaluation.scores import evaluate_predictions
from panembed.io.coco_panoptic import CocoPanopticWriter, panoptic_map
from panembed.io.images import read_raster
from panembed.labels.categories import Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.panoptic_quality import PanopticQuality

CLASSES = LabelSet([Category(i + 1, f"class {i}", i >= 11) for i in range(19)])
HEIGHT, WIDTH = 1024, 2048


def street(num_segments: int, seed: int) -> PanopticMap:
    """A map of blobs of about street-scene size: Voronoi cells with classes."""
    rng = np.random.default_rng(seed)
    points = np.stack([rng.integers(0, HEIGHT // 4, num_segments), rng.integers(0, WIDTH // 4, num_segments)], 1)
    seeds = np.zeros((HEIGHT // 4, WIDTH // 4), dtype=np.int32)
    seeds[points[:, 0], points[:, 1]] = np.arange(1, num_segments + 1)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    cells = seeds[tuple(nearest)].repeat(4, 0).repeat(4, 1)
    semantic = rng.integers(0, 19, num_segments + 1)[cells].astype(np.uint8)
    return PanopticMap(semantic, np.where(semantic >= 11, cells, 0))


def shifted(truth: PanopticMap, by: int = 5) -> PanopticMap:
    return PanopticMap(np.roll(truth.semantic, by, 1), np.roll(truth.instance, by, 1))


def plain_quality(prediction: PanopticMap, truth: PanopticMap) -> float:
    """Mask by mask, as one writes it first."""
    p_map, p_segments = prediction.segments(CLASSES)
    t_map, t_segments = truth.segments(CLASSES)
    total = 0.0
    for t in t_segments:
        mask = t_map == t.id
        for p_id in np.unique(p_map[mask]):
            if p_id and p_segments[p_id - 1].category == t.category:
                other = p_map == p_id
                union = np.count_nonzero(mask | other)
                iou = np.count_nonzero(mask & other) / union
                total += iou if iou > 0.5 else 0.0
    return total


def run(images: Path) -> Section:
    section = Section(
        "Panoptic Quality",
        f"A pair of {HEIGHT} x {WIDTH} arrays against comparing masks one by one, and a folder of 12 pairs of PNG files against "
        "hotcoco (Rust, two threads). Both give the same digits. `python -m benchmarks.quality` prints this section.",
        ["what", "panembed, ms", "other, ms", "ratio"],
    )
    times = {}
    for count in (60, 1000):
        truth = street(count, 0)
        prediction = shifted(truth)

        def ours(prediction=prediction, truth=truth):
            PanopticQuality(CLASSES).update(prediction, truth)

        candidates = {"ours": ours}
        if count == 60:
            candidates["plain"] = lambda p=prediction, t=truth: plain_quality(p, t)
        found = medians(candidates, rounds=7 if count > 60 else 3)
        times[count] = found["ours"]
        other = found.get("plain")
        section.rows.append(
            [
                f"arrays, {count} segments",
                ms(found["ours"]),
                "-" if other is None else ms(other),
                "-" if other is None else f"{other / found['ours']:.0f}",
            ]
        )
    found = _files()
    files, rust, plain = found["ours"], found["hotcoco"], found["mask by mask"]
    for what, key, other in (
        ("12 pairs of files, hotcoco", "ours", "hotcoco"),
        ("12 pairs of files, mask by mask", "ours", "mask by mask"),
        ("the same with all other scores, hotcoco", "all scores", "hotcoco"),
        ("12 pairs of files, all read by Pillow, hotcoco", "Pillow", "hotcoco"),
        ("reading those files and nothing else, hotcoco", "reading", "hotcoco"),
        ("decoding those files with Pillow and nothing else, hotcoco", "decoding", "hotcoco"),
    ):
        section.rows.append([what, ms(found[key]), ms(found[other]), f"{found[other] / found[key]:.2f}"])
    section.bars += [
        ("arrays with 60 segments in at most 25 ms", f"{ms(times[60])} ms", times[60] <= 0.025),
        ("1,000 segments at most twice that", f"{times[1000] / times[60]:.1f} times", times[1000] <= 2 * times[60]),
        ("files within 3 times hotcoco", f"{files / rust:.2f} times", files <= 3 * rust),
        ("files within 1.5 times hotcoco", f"{files / rust:.2f} times", files <= 1.5 * rust),
        ("files 2.5 times faster than mask by mask", f"{plain / files:.1f} times", plain >= 2.5 * files),
    ]
    _growth(images / "bench_quality.png")
    section.plots.append("bench_quality.png")
    return section


def _growth(path: Path) -> None:
    """Time of one pair of arrays over the number of its segments; masks one by one as long as that takes below 1 s."""
    counts: list[int] = []
    times: dict[str, list[float]] = {"panembed": [], "mask by mask": []}
    for cells in (10, 20, 50, 100, 200, 500, 1000, 2000):
        truth = street(cells, 0)
        prediction = shifted(truth)
        # Cells of one stuff class are one segment.
        counts.append(len(truth.segments(CLASSES)[1]))
        candidates = {"panembed": lambda p=prediction, t=truth: PanopticQuality(CLASSES).update(p, t)}
        if max(times["mask by mask"], default=0.0) < 1 and len(times["mask by mask"]) == len(counts) - 1:
            candidates["mask by mask"] = lambda p=prediction, t=truth: plain_quality(p, t)
        for name, seconds in medians(candidates, rounds=3).items():
            times[name].append(seconds)
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, 2)
    axes[0].plot(counts, [1000 * t for t in times["panembed"]], "o-")
    axes[0].set(title="panembed", ylim=(0, None))
    for name, values in times.items():
        axes[1].plot(counts[: len(values)], [1000 * t for t in values], "o-", label=name)
    axes[1].set(title="and masks compared one by one", xscale="log", yscale="log")
    axes[1].legend()
    for axis in axes:
        axis.set(xlabel=f"segments, {HEIGHT} x {WIDTH} pixels", ylabel="ms")
    figure.savefig(path, dpi=120)


def _files() -> dict[str, float]:
    """Median seconds of each way of scoring 12 pairs of files."""
    with tempfile.TemporaryDirectory() as folder:
        truth_folder, prediction_folder = Path(folder) / "truth", Path(folder) / "prediction"
        for place, change in ((truth_folder, lambda m: m), (prediction_folder, shifted)):
            place.mkdir()
            with CocoPanopticWriter(place, CLASSES) as writer:
                for number in range(12):
                    writer.add(f"{number:03}.png", change(street(60, number)))

        def ours() -> float:
            truth = CocoPredictions(truth_folder / "panoptic.json", CLASSES)
            prediction = CocoPredictions(prediction_folder / "panoptic.json", CLASSES)
            quality = PanopticQuality(CLASSES)
            with ThreadPoolExecutor(2) as pool:
                for pair in pool.map(lambda number: (prediction.read(number), truth.read(number)), range(12)):
                    quality.update(*pair)
            return quality.compute().all.pq

        def rust() -> float:
            result = pq_compute(
                str(truth_folder / "panoptic.json"),
                str(prediction_folder / "panoptic.json"),
                str(truth_folder / "panoptic"),
                str(prediction_folder / "panoptic"),
            )
            return result["All"]["pq"]

        def all_scores() -> float:
            dataset = open_dataset(truth_folder, "coco-panoptic")
            matched = match_predictions(open_predictions(prediction_folder, CLASSES), dataset, dataset.ids)
            return evaluate_predictions(matched, dataset, dataset.ids).metrics()["all"]["pq"]

        paths = sorted(Path(folder).rglob("*.png"))

        def decode(path: Path) -> None:
            with Image.open(path) as image:
                image.load()

        def decoding() -> None:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(decode, paths))

        def reading() -> None:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(read_raster, paths))

        def pillow() -> float:
            with mock.patch("panembed.io.raster.decode_plain_png", return_value=None):
                return ours()

        assert abs(ours() - rust()) < 1e-9
        assert abs(all_scores() - rust()) < 1e-9
        candidates = {"ours": ours, "all scores": all_scores, "Pillow": pillow, "reading": reading}
        found = medians(candidates | {"decoding": decoding, "hotcoco": rust}, rounds=9)
        data = {p: json.loads((p / "panoptic.json").read_text()) for p in (truth_folder, prediction_folder)}
        started = time.perf_counter()
        for t, p in zip(data[truth_folder]["annotations"], data[prediction_folder]["annotations"]):
            maps = [
                panoptic_map(read_raster(place / "panoptic" / a["file_name"]).samples, a["segments_info"], CLASSES)
                for place, a in ((prediction_folder, p), (truth_folder, t))
            ]
            plain_quality(*maps)
        return found | {"mask by mask": time.perf_counter() - started}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as images:
        print(run(Path(images)).markdown())
