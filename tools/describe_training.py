"""Note in a model's config.json what its training images were like, for models that were trained before that was done.

    python tools/describe_training.py src/panembed/models/shipped/nuclei $PANEMBED_DATA/nuclei

Newly trained models have it from the start. The weights stay as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from panembed.assembly.trained_model import load
from panembed.assembly.training_data import TrainingData
from panembed.datasets.layout import open_dataset
from panembed.datasets.sample import Sample, choose_channel
from panembed.inference.model_config import read_config
from panembed.io.atomic import write_json


def describe(folder: Path, data: Path) -> None:
    """Read the model's training images, and write the key `learned`."""
    model, config, dataset = load(folder, device="cpu"), read_config(folder), open_dataset(data)
    dataset.label_set = model.label_set  # plain folders have names of their own
    choose_channel(dataset, model.preparation.channel)
    seen = TrainingData(dataset, model.preparation)
    for id in config.split["train"]:
        sample = dataset.load(id)
        seen.add(sample, Sample(model.preparation.view(sample.image), sample.truth, id))
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, content | {"learned": seen.learned()})


if __name__ == "__main__":
    describe(Path(sys.argv[1]), Path(sys.argv[2]))
