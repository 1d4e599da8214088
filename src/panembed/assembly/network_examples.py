"""What a run's network gives for some images, and what augmentation makes of others, for a report.

The figures of the thesis: the class mask (3.3), clusters beside the ground truth (3.4), embeddings in two dimensions
coloured by cluster (2.9), and augmentation (4.2).
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panembed.assembly import build, trained_model
from panembed.datasets.sample import Dataset, Sample, choose_channel
from panembed.datasets.source import DataSource, read_source
from panembed.errors import PanembedError
from panembed.inference.fusion import class_mask
from panembed.inference.predictor import PanopticModel
from panembed.inference.preparation import resize_nearest
from panembed.io.overlay import color_map
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.report.charts import Chart, cloud
from panembed.report.html import NetworkExample, Panel, Report
from panembed.report.matching_colors import match_colors
from panembed.report.pictures import class_layer, label_layer, photograph, shown_shape
from panembed.settings.schema import Settings

_MOST_IMAGES = 4
_SIDE = 360
_MOST_POINTS = 1500


def add_network(report: Report, run: Path, source: DataSource | None, *, seconds: float, device: str = "auto") -> None:
    """Run the network on a few validation images and put the pictures into a report.

    What can't be had (the data are gone, nothing can run the network) becomes a note.

    Args:
        report: to add to.
        run: the run folder.
        source: of the data; None takes the place that the run notes.
        seconds: after which no further image is begun.
        device: of the network.
    """
    end = time.monotonic() + seconds
    try:
        dataset = _dataset(run, source)
        if dataset is None:
            report.notes.append(
                "The run doesn't note where its images are, so nothing is shown of the network; give --data."
            )
            return
        split = trained_model.split_of(run)
        known = set(dataset.ids)
        chosen = [id for id in (split.val or split.test or split.train) if id in known][:_MOST_IMAGES]
        if not chosen:
            report.notes.append(f"{dataset.root} has none of the run's images, so nothing is shown of the network.")
            return
        model = trained_model.load(run, device=device)
        choose_channel(dataset, model.preparation.channel)
        for id in chosen:
            if time.monotonic() > end:
                report.notes.append(
                    f"Time was up after {len(report.network)} images that the network was run on; --seconds gives more."
                )
                break
            report.network.append(_example(model, dataset.load(id)))
        if time.monotonic() < end:
            _add_augmentation(report, run, dataset, [id for id in split.train if id in known][:2])
    except PanembedError as error:
        report.notes.append(f"Nothing more is shown of the network: {error}.")
    except (RuntimeError, MemoryError) as error:
        said = str(error).partition("\n")[0][:160]
        report.notes.append(f"Nothing more is shown of the network, which failed ({type(error).__name__}: {said}).")


def _dataset(run: Path, source: DataSource | None) -> Dataset | None:
    if source is None:
        noted = read_source(run)
        if noted is None:
            return None
        source = noted[0]
    return source.open()


def _example(model: PanopticModel, sample: Sample) -> NetworkExample:
    image, label_set = sample.image, model.label_set
    scores, embeddings, *seeds = (output[0] for output in model.backend(model.preparation.prepare(image)[None]))
    panoptic = model.group(scores, embeddings, sample.size, *seeds)
    mask = class_mask(model.preparation.restore(scores, sample.size))
    matched = match_colors(panoptic, sample.truth, label_set)
    shape = shown_shape(sample.size, _SIDE)
    panels = [
        Panel("Input", photograph(image, shape)),
        Panel("Class mask", class_layer(mask, label_set, shape)),
        Panel("Clusters", label_layer(matched, label_set, shape)),
        Panel("Truth", label_layer(sample.truth, label_set, shape)),
    ]
    if (chart := _embedding_chart(model, embeddings, matched, sample.size)) is not None:
        panels.append(Panel(chart.title, chart=chart))
    return NetworkExample(sample.id, panels, shape)


def _embedding_chart(
    model: PanopticModel, embeddings: NDArray[np.float32], panoptic: PanopticMap, size: tuple[int, int]
) -> Chart | None:
    """Embeddings of thing pixels in two dimensions, each in the colour of its object; None where there are none."""
    small = model.preparation.cut(embeddings, size)
    shape = small.shape[1], small.shape[2]
    semantic, instance = (
        resize_nearest(labels.astype(np.int64), shape) for labels in (panoptic.semantic, panoptic.instance)
    )
    labels = PanopticMap(semantic, instance, panoptic.crowd)
    among = np.flatnonzero(np.isin(labels.semantic, model.label_set.things) & (labels.instance > 0))
    if not len(among):
        return None
    if len(among) > _MOST_POINTS:
        among = np.sort(np.random.default_rng(0).choice(among, _MOST_POINTS, replace=False))
    points, share = flattened(small.reshape(len(small), -1)[:, among].T)
    colors = color_map(labels, model.label_set).reshape(-1, 3)[among]
    named = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colors.tolist()]
    how = "" if len(small) <= 2 else f", {100 * share:.0f} % of their variance"
    return cloud(
        f"Embeddings{how}",
        points,
        named,
        f"Embeddings of {len(points)} pixels of {len(set(named))} objects in two dimensions{how}.",
    )


def flattened(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """Points in the plane of their largest variance (principal components), and its share of the whole variance.

    Args:
        points: NxE; with E of 2 or less they stay as they are.

    >>> plane, share = flattened(np.array([[0.0, 0, 5], [3, 4, 5], [6, 8, 5]]))
    >>> np.abs(np.diff(plane[:, 0])).round(6).tolist(), round(share, 6)
    ([5.0, 5.0], 1.0)
    """
    points = np.asarray(points, dtype=np.float64)
    if points.shape[1] <= 2:
        return np.pad(points, ((0, 0), (0, 2 - points.shape[1]))), 1.0
    centred = points - points.mean(0)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    whole = float(variances.sum())
    return centred @ directions[:, [-1, -2]], float(variances[-2:].sum()) / whole if whole > 0 else 1.0


def _add_augmentation(report: Report, run: Path, dataset: Dataset, ids: list[str]) -> None:
    if find_spec("torch") is None:
        report.notes.append("Augmentation is not shown, as it needs PyTorch: pip install 'panembed[train]'.")
        return
    settings = Settings.load(config=run / "config.yaml")
    for id in ids:
        report.augmentation.append(_augmented(settings, dataset.load(id), dataset.label_set))


def _augmented(settings: Settings, sample: Sample, label_set: LabelSet) -> NetworkExample:
    """An image and its truth, before and after augmentation."""
    import torch

    augment = build.augmentation(settings.augmentation)
    image = torch.from_numpy(sample.image.transpose(2, 0, 1).astype(np.float32))
    labels = torch.from_numpy(
        # 0 is what falls outside of the image.
        np.stack([sample.truth.semantic.astype(np.float32) + 1, sample.truth.instance.astype(np.float32)])
    )
    rng = np.random.default_rng(settings.training.seed)
    after, after_labels = augment(augment.recolour(image, rng), labels, rng, build.preparation(settings.input))
    semantic = after_labels[0].numpy().astype(np.int64) - 1
    truth = PanopticMap(np.where(semantic < 0, 255, semantic), after_labels[1].numpy().astype(np.int32))
    pixels = np.clip(after.numpy().transpose(1, 2, 0).round(), 0, 255).astype(np.uint8)
    shape, after_shape = shown_shape(sample.size, _SIDE), shown_shape(truth.shape, _SIDE)
    panels = [
        Panel("Image", photograph(sample.image, shape)),
        Panel("Truth", label_layer(sample.truth, label_set, shape)),
        Panel("Augmented image", photograph(np.ascontiguousarray(pixels), after_shape)),
        Panel("Augmented truth", label_layer(truth, label_set, after_shape)),
    ]
    return NetworkExample(sample.id, panels, shape)
