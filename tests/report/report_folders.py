"""Small folders as predict and evaluate write them, without a network: shared by the tests of reports."""

from pathlib import Path

import panembed
from panembed.datasets.synthetic import SyntheticDataset, write_folder
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.prediction_folder import PredictionFolder
from panembed.results.record import PredictionRecord
from panembed.results.result import PanopticResult

NASTY = "<img src=x onerror=alert(1)>"
"""A file name that is markup."""


def write_data(root: Path, count: int = 4, *, size: int = 64, nasty: bool = True) -> Path:
    """Made-up plants as images/ and labels/; the name of one is markup."""
    write_folder(SyntheticDataset(count, size=size), root)
    if nasty:
        first = min((root / "images").iterdir())
        for folder in ("images", "labels"):
            path = root / folder / first.name
            path.rename(path.with_name(f"{NASTY}.png"))
    return root


def predicted(truth: PanopticMap) -> PanopticMap:
    """Wrong in a known way: the first object is lost, and the others are whole."""
    first = truth.instance[truth.instance > 0].min()
    gone = truth.instance == first
    return PanopticMap(
        [[0 if g else int(c) for g, c in zip(*row)] for row in zip(gone, truth.semantic)],
        [[0 if g else int(i) for g, i in zip(*row)] for row in zip(gone, truth.instance)],
    )


def write_predictions(folder: Path, data: Path) -> Path:
    """What predict would write for the images of `data`."""
    from panembed.datasets.layout import open_dataset

    dataset = open_dataset(data)
    folder.mkdir(parents=True)
    call = {
        "panembed": panembed.__version__,
        "model": "none",
        "weights": "",
        "classes": dataset.label_set.to_list(),
        "set": [],
        "pixel_size": "0.25um",
        "unit": None,
        "write": [],
        "numbers": False,
    }
    record = PredictionRecord(folder, call)
    record.write()
    with PredictionFolder(folder, dataset.label_set, record=record) as predictions:
        for id in dataset.ids:
            path = dataset.image_path(id)
            result = PanopticResult(
                predicted(dataset.read_truth(id)), dataset.label_set, dataset.read_image(id), path.stem
            )
            assert predictions.add(path, result) is None
    return folder
