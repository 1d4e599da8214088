"""Learn the calibration of a shipped model's scores anew, and keep it in its config.json.

    python tools/calibrate_shipped.py leaf cvppp
    python tools/calibrate_shipped.py nuclei nuclei nuclei_large

The shipped models have no validation images. The first data set gives the images that the model was trained on, the
others all their images, which it never saw; test images are left alone.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from panembed.assembly import trained_model
from panembed.datasets.layout import open_dataset
from panembed.inference.model_folder import shipped_folder
from panembed.io.atomic import write_json
from panembed.tuning.calibration import calibrate


def main() -> None:
    """Calibrate the model named first on the data sets named after it, folders of PANEMBED_DATA."""
    name, first, *others = sys.argv[1:]
    root = Path(os.environ["PANEMBED_DATA"])
    train = trained_model.split_of(name).train
    data = [(open_dataset(root / first, "auto"), train)]
    data += [(found, found.ids) for found in (open_dataset(root / other, "auto") for other in others)]
    calibration = calibrate(trained_model.load(name), data)
    path = shipped_folder(name) / "config.json"
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"calibration": calibration.to_plain()})
    print(json.dumps(calibration.to_plain(), indent=2))


if __name__ == "__main__":
    main()
