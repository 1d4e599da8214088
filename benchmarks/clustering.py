"""Mean shift against scikit-learn's, and against HDBSCAN, on embeddings of a trained leaf model and on synthetic ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN, MeanShift
from sklearn.metrics import adjusted_rand_score

from benchmarks.timing import Section, medians, ms
from panembed import trained_model
from panembed.clustering.mean_shift import mean_shift
from panembed.datasets.layout import open_dataset
from panembed.datasets.part import choose_ids
from panembed.evaluation import Evaluation
from panembed.fusion import class_mask, fuse
from panembed.inference.preparation import resize_maps

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
        "Real embeddings (E = 16) of test images of CVPPP A1 by a trained `leaf` model, at the network's 256x256 and stretched to "
        "the images' own 500x530; each method clusters the same pixels, all that the model calls leaf. Both mean shifts take the model's own "
        "bandwidth. Least size of a cluster at 256x256: 40 pixels for panembed, chosen on validation images, and 50 for HDBSCAN; in "
        "proportion at 500x530. panembed's time is the median of five runs after one to warm up. Then synthetic balls.",
        ["what", "method", "ms an image", "times panembed", "things PQ"],
    )
    data = os.environ.get("PANEMBED_DATA")
    if model is not None and data:
        _real(section, model, Path(data) / "cvppp")
    _synthetic(section)
    _growth(images / "bench_clustering.png")
    section.plots.append("bench_clustering.png")
    return section


def _real(section: Section, model_folder: Path, data: Path) -> None:
    model, dataset = trained_model.load(model_folder), open_dataset(data)
    ids = choose_ids(dataset, "test", trained_model.split_of(model_folder))
    grouping = model.grouping
    if grouping.method != "mean_shift":
        section.text += (
            f" The real embeddings are left out: the model given groups by {grouping.method}, not by mean shift."
        )
        return
    # The second number is the image's area in that of 256 x 256.
    methods: dict[str, Callable[[Points, float], NDArray[np.int32]]] = {
        "panembed": lambda x, area: mean_shift(
            x,
            bandwidth=grouping.bandwidth,
            seed_bandwidth=grouping.seed_bandwidth,
            min_cluster_size=round(40 * area),
        ),
        "scikit-learn MeanShift, bin seeding": lambda x, area: MeanShift(
            bandwidth=grouping.bandwidth, bin_seeding=True
        ).fit_predict(x),
        "HDBSCAN": lambda x, area: HDBSCAN(min_cluster_size=round(50 * area), copy=True).fit_predict(x),
    }
    for native in (False, True):
        chosen = ids[:8] if not native else ids[:4]
        times, scores = dict.fromkeys(methods, 0.0), {name: Evaluation(dataset.label_set) for name in methods}
        for id in chosen:
            sample = dataset.load(id)
            output, embeddings, *_ = (a[0] for a in model.backend(model.preparation.prepare(sample.image)[None]))
            shape = sample.truth.shape if native else (256, 256)
            semantic = class_mask(resize_maps(output, shape))
            points = np.ascontiguousarray(resize_maps(embeddings, shape)[:, semantic == 1].T)
            for name, method in methods.items():
                area = shape[0] * shape[1] / 256**2
                if name == "panembed":
                    seconds = medians({name: lambda m=method, x=points, a=area: m(x, a)}, rounds=5)[name]
                    labels = method(points, area)
                else:
                    started = time.perf_counter()
                    labels = method(points, area)
                    seconds = time.perf_counter() - started
                times[name] += seconds / len(chosen)
                # At the truth's own size, so that both sizes can be compared.
                small = fuse(semantic, {1: np.asarray(labels, dtype=np.int32)})
                rows = ((np.arange(sample.truth.shape[0]) + 0.5) * shape[0] / sample.truth.shape[0]).astype(int)
                columns = ((np.arange(sample.truth.shape[1]) + 0.5) * shape[1] / sample.truth.shape[1]).astype(int)
                index = np.ix_(rows, columns)
                scores[name].add(id, type(small)(small.semantic[index], small.instance[index]), sample.truth)
        quality = {name: 100 * (s.quality_result().things.pq or 0.0) for name, s in scores.items()}
        what = f"{'500x530' if native else '256x256'}, {len(chosen)} images"
        for name in methods:
            ratio = times[name] / times["panembed"]
            section.rows.append([what, name, ms(times[name]), f"{ratio:.0f}", f"{quality[name]:.1f}"])
        slow = times["scikit-learn MeanShift, bin seeding"] / times["panembed"]
        section.bars += [
            (f"{what}: 100 times faster than scikit-learn's MeanShift", f"{slow:.0f} times", slow >= 100),
            (
                f"{what}: things PQ above scikit-learn's MeanShift and HDBSCAN",
                ", ".join(f"{quality[n]:.1f}" for n in methods),
                quality["panembed"] > max(v for n, v in quality.items() if n != "panembed"),
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
