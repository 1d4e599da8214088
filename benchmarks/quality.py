"""Panoptic Quality on arrays and on files."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from hotcoco.panoptic import pq_compute
from scipy import ndimage

from benchmarks.timing import Section, medians, ms
from panembed.io.coco_panoptic import CocoPanopticWriter, panoptic_map
from panembed.io.images import read_raster
from panembed.labels import Category, LabelSet, PanopticMap
from panembed.metrics.panoptic_quality import PanopticQuality
from panembed.predictions.coco import CocoPredictions

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
        "hotcoco (Rust, two threads). Both give the same digits.",
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
    files, rust, plain = _files()
    section.rows.append(["12 pairs of files, hotcoco", ms(files), ms(rust), f"{rust / files:.2f}"])
    section.rows.append(["12 pairs of files, mask by mask", ms(files), ms(plain), f"{plain / files:.1f}"])
    section.bars += [
        ("arrays with 60 segments in at most 25 ms", f"{ms(times[60])} ms", times[60] <= 0.025),
        ("1,000 segments at most twice that", f"{times[1000] / times[60]:.1f} times", times[1000] <= 2 * times[60]),
        ("files within 1.5 times hotcoco", f"{files / rust:.2f} times", files <= 1.5 * rust),
        ("files 2.5 times faster than mask by mask", f"{plain / files:.1f} times", plain >= 2.5 * files),
    ]
    return section


def _files() -> tuple[float, float, float]:
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

        assert abs(ours() - rust()) < 1e-9
        found = medians({"ours": ours, "rust": rust}, rounds=5)
        data = {p: json.loads((p / "panoptic.json").read_text()) for p in (truth_folder, prediction_folder)}
        started = time.perf_counter()
        for t, p in zip(data[truth_folder]["annotations"], data[prediction_folder]["annotations"]):
            maps = [
                panoptic_map(read_raster(place / "panoptic" / a["file_name"]).samples, a["segments_info"], CLASSES)
                for place, a in ((prediction_folder, p), (truth_folder, t))
            ]
            plain_quality(*maps)
        return found["ours"], found["rust"], time.perf_counter() - started
