"""Real data that come with the package, so that everything can be tried without a download."""

from __future__ import annotations

from pathlib import Path

from panembed.datasets.folder import FolderDataset


def sample_nuclei_path() -> Path:
    """The folder of the nuclei sample, with `images/`, `labels/`, `labels.yaml`, `split.json` and `NOTICE`.

    >>> sample_nuclei_path().name
    'sample_nuclei'
    """
    return Path(__file__).parent / "sample_nuclei"


def sample_nuclei() -> FolderDataset:
    """Open the nuclei sample: 60 microscope images with every nucleus labelled.

    From the 2018 Data Science Bowl (BBBC038v1, CC0; Caicedo et al. 2019), see `NOTICE` in its folder. Classes are
    background (0) and nucleus (1); `split.json` divides it into 36 images for training, 12 for validation and 12 for
    testing.

    >>> sample_nuclei().load(sample_nuclei().ids[0]).truth.num_instances > 0
    True
    """
    return FolderDataset(sample_nuclei_path())
