import numpy as np
import yaml
from PIL import Image

from panembed.datasets.samples import sample_nuclei, sample_nuclei_path
from panembed.datasets.splits import SPLIT_FILE, Split, make_split


def test_every_image_loads_and_has_nuclei():
    dataset = sample_nuclei()
    assert len(dataset) == 60
    assert [(c.id, c.name, c.is_thing) for c in dataset.label_set] == [(0, "background", False), (1, "nucleus", True)]
    nuclei = 0
    for id in dataset.ids:
        sample = dataset.load(id)
        with Image.open(dataset.label_path(id)) as label:
            expected = np.unique(np.asarray(label))
        assert expected[0] == 0
        assert sample.truth.num_instances == len(expected) - 1 > 0
        nuclei += sample.truth.num_instances
    assert nuclei == 1843


def test_split_is_the_one_it_says():
    dataset = sample_nuclei()
    split = Split.read(sample_nuclei_path() / SPLIT_FILE)
    split.check(dataset.ids)
    assert split == make_split(dataset.ids, seed=0)
    assert (len(split.train), len(split.val), len(split.test)) == (36, 12, 12)


def test_folder_is_small_and_says_where_it_comes_from():
    files = [p for p in sample_nuclei_path().rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 5_000_000
    assert {p.suffix for p in files} == {".png", ".yaml", ".json", ""}
    notice = (sample_nuclei_path() / "NOTICE").read_text()
    for words in ("BBBC038v1", "CC0", "1247-1253", "60 were drawn at random"):
        assert words in notice
    assert set(yaml.safe_load((sample_nuclei_path() / "labels.yaml").read_text())) == {"encoding", "classes"}
