"""Where a run's or an evaluation's images come from, kept beside the results so that a report finds them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panembed.datasets.folder import label_coding
from panembed.datasets.layout import LAYOUTS, layout_name, open_dataset
from panembed.datasets.sample import Dataset
from panembed.errors import InputError, SettingsError
from panembed.io.atomic import write_json

SOURCE_FILE = "data.json"
"""In a run folder, and in a folder that `panembed evaluate` wrote."""


@dataclass(frozen=True, slots=True)
class DataSource:
    """What opens a data set.

    Attributes:
        folder: of the data, or a COCO JSON.
        format: the name of its layout, or auto.
        labels: a labels.yaml; None where the folder has its own, or needs none.
        otherwise: what a labels.yaml would hold, from settings, for a folder that has none.

    >>> from panembed.datasets.samples import sample_nuclei_path
    >>> len(DataSource(sample_nuclei_path()).open())
    60
    """

    folder: Path
    format: str = "auto"
    labels: Path | None = None
    otherwise: Mapping[str, Any] | None = None

    def open(self) -> Dataset:
        """Open the data set; its files are listed, not read.

        Raises:
            InputError: the folder is missing, or isn't recognised.
            SettingsError: `labels` has no effect on such data.
        """
        options: dict[str, Any] = {}
        if self.labels is not None:
            if (layout := layout_name(self.folder, self.format)) != "folder":
                raise SettingsError(
                    f"--labels has no effect on data format {layout}, which knows its classes; leave it out"
                )
            options["labels_file"] = self.labels
        elif self.otherwise is not None and "otherwise" in LAYOUTS[layout_name(self.folder, self.format)].options:
            options["otherwise"] = label_coding(self.otherwise, "settings: labels")
        return open_dataset(self.folder, self.format, **options)

    def write(self, folder: Path, **more: Any) -> None:
        """Write data.json into a folder of results, with further plain values; OutputError where it can't be."""
        plain = {
            "data": str(self.folder.resolve()),
            "format": self.format,
            "labels": None if self.labels is None else str(self.labels.resolve()),
            "otherwise": None if self.otherwise is None else dict(self.otherwise),
        }
        write_json(folder / SOURCE_FILE, plain | more)


def read_source(folder: Path) -> tuple[DataSource, dict[str, Any]] | None:
    """The source that a folder of results notes, and all that its data.json holds; None where it has none.

    Raises:
        InputError: it is damaged.
    """
    path = folder / SOURCE_FILE
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_bytes())
        labels = data.get("labels")
        source = DataSource(
            Path(data["data"]), str(data["format"]), None if labels is None else Path(labels), data.get("otherwise")
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: is damaged; expected what panembed wrote; give the data with --data") from error
    return source, data
