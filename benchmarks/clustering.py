"""Mean shift against scikit-learn's, and against HDBSCAN, on embeddings of a trained leaf model and on synthetic ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN, MeanShift
from sklearn.metrics import adjusted_rand_score

from benchmarks.timing import Section, medians, ms
from panembed.assembly import trained_model
from panembed.clustering.mean_shift import mean_shift
from panembed.datasets.layout import open_dataset
from panembed.datasets.part import choose_ids
from panembed.evaluation.scores import Evaluation
from panembed.inference.fusion import class_mask, confidence, fuse
from panembed.inference.grouping import Grouping
from panembed.inference.preparation import resize_maps, resize_nearest
from panembed.labels.panoptic_map import PanopticMap

Points = NDArray[np.float32]


def balls(
    count: int, dims: int, clusters: int, outliers: float = 0.0, seed: int = 0
) -> tuple[Points, NDArray[np.int64]]:
    """Balls at least 3 apart with most points within 0.5 of their centre, as the loss asks for, and uniform outliers."""
    rng = np.random.default_rng(seed)
    centres: list[NDArray[np.float64]] = []
    while len(centres) < clusters:
        candidate = rng.uniform(-4, 4, dims)
        if all(np.linalg.norm(candidate - c) > 3 for c in centres):
            centres.append(candidate)
    labels = rng.integers(0, clusters, count)
    points = np.array(centres)[labels] + 0.35 * rng.standard_normal((count, dims)) / np.sqrt(dims)
    stray = rng.random(count) < outliers
    points[stray] = rng.uniform(-6, 6, (int(stray.sum()), dims))
    labels[stray] = -1
    return points.astype(np.float32), labels


def run(images: Path, model: Path | None) -> Section:
    section = Section(
        "Clustering",
        "Embeddings of test images of CVPPP A1; each method clusters the same pixels, all that the model calls leaf. First those of "
        "the shipped `leaf` (E = 2, 352x352), as it groups them itself, seeds and density included, and by the other methods: both mean "
        "shifts with a bandwidth of 0.75, panembed's with a kernel of 0.4. "
        "panembed's time is the median of five runs after one to warm up.",
        ["what", "method", "ms an image", "times panembed", "things PQ"],
    )
    data = os.environ.get("PANEMBED_DATA")
    if data:
        leaf = Path("leaf")
        _real(section, leaf, Path(data) / "cvppp", "shipped `leaf`", None, count=8)
        if model is not None and trained_model.load(model).grouping.method == "mean_shift":
            section.text += (
                f" Then those of `{model.resolve().parent.name}` of docs/accuracy.md, at the network's 256x256 and "
                "stretched to the images' own 500x530: least size of a cluster 40 pixels at 256x256 for panembed, 50 for "
                "HDBSCAN, in proportion at 500x530."
            )
            _real(section, model, Path(data) / "cvppp", "256x256", (256, 256), count=8)
            _real(section, model, Path(data) / "cvppp", "500x530", None, count=4)
    section.text += " Last, synthetic balls."
    _synthetic(section)
    _growth(images / "bench_clustering.png")
    section.plots.append("bench_clustering.png")
    return section


@dataclass(frozen=True, slots=True)
class _Scene:
    """What one image gives the methods: NxE points of the pixels of a mask, and the area in that of 256 x 256."""

    points: Points
    mask: NDArray[np.bool_]
    embeddings: NDArray[np.float32]
    sure: NDArray[np.float32]
    seeds: NDArray[np.float32] | None
    area: float


Method = Callable[[_Scene], NDArray[np.int32]]


def _methods(grouping: Grouping) -> dict[str, Method]:
    """By their names, ours first."""
    wide, narrow = (0.75, 0.4) if grouping.method == "seed_map" else (grouping.bandwidth, grouping.seed_bandwidth)
    methods: dict[str, Method] = {}
    if grouping.method == "seed_map":
        methods["panembed, seed map"] = lambda scene: grouping.members(
            scene.embeddings, scene.mask, *grouping.centres(scene.embeddings, scene.mask, scene.sure, scene.seeds)
        )
    methods["panembed, mean shift"] = lambda scene: mean_shift(
        scene.points, bandwidth=wide, seed_bandwidth=narrow, min_cluster_size=round(40 * scene.area)
    )
    methods["scikit-learn MeanShift, bin seeding"] = lambda scene: MeanShift(
        bandwidth=wide, bin_seeding=True
    ).fit_predict(scene.points)
    methods["HDBSCAN"] = lambda scene: HDBSCAN(min_cluster_size=round(50 * scene.area), copy=True).fit_predict(
        scene.points
    )
    return methods


def _real(
    section: Section, model_name: Path, data: Path, what: str, shape: tuple[int, int] | None, *, count: int
) -> None:
    """Rows of one model: at a size, or at its network's own where it has seeds, else at the image's."""
    model, dataset = trained_model.load(model_name), open_dataset(data)
    ids = choose_ids(dataset, "test", trained_model.split_of(model_name))[:count]
    methods = _methods(model.grouping)
    ours = next(iter(methods))
    times, scores = dict.fromkeys(methods, 0.0), {name: Evaluation(dataset.label_set) for name in methods}
    for id in ids:
        sample = dataset.load(id)
        output, embeddings, *seeds = (a[0] for a in model.backend(model.preparation.prepare(sample.image)[None]))
        size = shape or ((output.shape[1], output.shape[2]) if seeds else sample.truth.shape)
        output, embeddings = resize_maps(output, size), resize_maps(embeddings, size)
        semantic = class_mask(output)
        mask = semantic == 1
        points = np.ascontiguousarray(embeddings[:, mask].T)
        scene = _Scene(
            points, mask, embeddings, confidence(output), seeds[0] if seeds else None, size[0] * size[1] / 256**2
        )
        for name, method in methods.items():
            if name.startswith("panembed"):
                seconds = medians({name: lambda m=method, s=scene: m(s)}, rounds=5)[name]
                labels = method(scene)
            else:
                started = time.perf_counter()
                labels = method(scene)
                seconds = time.perf_counter() - started
            times[name] += seconds / len(ids)
            # At the truth's own size, so that sizes can be compared.
            small = fuse(semantic, {1: np.asarray(labels, dtype=np.int32)})
            found = PanopticMap(
                *(resize_nearest(a.astype(np.int64), sample.truth.shape) for a in (small.semantic, small.instance))
            )
            scores[name].add(id, found, sample.truth)
    quality = {name: 100 * (s.quality_result().things.pq or 0.0) for name, s in scores.items()}
    what = f"{what}, {len(ids)} images"
    for name in methods:
        ratio = times[name] / times[ours]
        shown = f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"
        section.rows.append([what, name, ms(times[name]), shown, f"{quality[name]:.1f}"])
    slow = times["scikit-learn MeanShift, bin seeding"] / times["panembed, mean shift"]
    others = [name for name in methods if not name.startswith("panembed")]
    section.bars += [
        (f"{what}: mean shift 100 times faster than scikit-learn's", f"{slow:.0f} times", slow >= 100),
        (
            f"{what}: things PQ above scikit-learn's MeanShift and HDBSCAN",
            ", ".join(f"{quality[n]:.1f}" for n in (ours, *others)),
            quality[ours] > max(quality[n] for n in others),
        ),
    ]


def _synthetic(section: Section) -> None:
    cases = {share: balls(400_000, 8, 60, share) for share in (0.0, 0.02, 0.2)}
    found = medians({str(s): lambda x=x: mean_shift(x) for s, (x, _) in cases.items()}, rounds=5)
    counts = {}
    for share, (points, truth) in cases.items():
        labels = mean_shift(points)
        counts[share] = int(labels.max()) + 1
        agreement = adjusted_rand_score(truth[truth >= 0], labels[truth >= 0])
        section.rows.append(
            [
                f"400,000 points, E = 8, 60 balls, {100 * share:.0f} % outliers",
                "panembed",
                ms(found[str(share)]),
                "1",
                f"{counts[share]} clusters, ARI {agreement:.4f}",
            ]
        )
    clean = found["0.0"]
    section.bars += [
        ("400,000 points, 60 balls in at most 0.2 s", f"{ms(clean)} ms", clean <= 0.2),
        (
            "2 % and 20 % outliers change the count by at most one",
            ", ".join(str(c) for c in counts.values()),
            all(abs(c - counts[0.0]) <= 1 for c in counts.values()),
        ),
        (
            "and the time by at most 2 times",
            ", ".join(f"{found[str(s)] / clean:.2f}" for s in (0.02, 0.2)),
            all(found[str(s)] <= 2 * clean for s in (0.02, 0.2)),
        ),
    ]


def _growth(path: Path) -> None:
    def seconds(count: int, dims: int, clusters: int) -> float:
        points, _ = balls(count, dims, clusters)
        return 1000 * medians({"": lambda: mean_shift(points)}, rounds=3)[""]

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    counts, clusters, dims = (5_000, 20_000, 80_000, 200_000, 400_000), (2, 5, 15, 30, 60), (4, 8, 16, 32, 64)
    axes[0].plot(counts, [seconds(n, 8, 30) for n in counts], "o-")
    axes[0].set(xlabel="points", title="E = 8, 30 clusters")
    axes[1].plot(clusters, [seconds(100_000, 8, k) for k in clusters], "o-")
    axes[1].set(xlabel="clusters", title="100,000 points, E = 8")
    axes[2].plot(dims, [seconds(100_000, e, 15) for e in dims], "o-")
    axes[2].set(xlabel="embedding size E", title="100,000 points, 15 clusters")
    for axis in axes:
        axis.set(ylabel="ms", ylim=(0, None))
    figure.savefig(path, dpi=120)
