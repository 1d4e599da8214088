"""Calibrate the scores of a trained model's objects on validation images, and keep that in the model."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import replace

from panembed.assembly import trained_model
from panembed.datasets.sample import Dataset
from panembed.errors import InputError
from panembed.inference.model_config import update_calibration
from panembed.inference.model_folder import resolve_model
from panembed.inference.object_scores import Calibration
from panembed.tuning.calibration import calibrate

logger = logging.getLogger("panembed")


def calibrate_model(
    name: str | os.PathLike[str],
    dataset: Dataset,
    ids: Iterable[str],
    part: str,
    *,
    device: str = "auto",
    allow_modules: Iterable[str] = (),
) -> Calibration | None:
    """Learn from these images what makes an object's score the probability of a match, and keep it in config.json.

    Args:
        name: a run folder or a model folder, not the package's own.
        dataset: images with truth.
        ids: which of them.
        part: what they are, for the record: val or train.
        device: auto, cpu, cuda, ...
        allow_modules: Python modules that the model's network may be imported from.

    Returns:
        What was learned; None where no object is found in these images, which is logged, and the model stays as it is.

    Raises:
        ModelError: the model can't be loaded, or comes with the package.
    """
    model = trained_model.load(name, device=device, allow_modules=allow_modules)
    try:
        calibration = calibrate(model, [(dataset, ids)])
    except InputError as error:
        logger.info("scores of objects are not calibrated: %s", error)
        return None
    calibration = replace(calibration, found_on={"split": part, **(calibration.found_on or {})})
    update_calibration(resolve_model(name), calibration)
    return calibration
