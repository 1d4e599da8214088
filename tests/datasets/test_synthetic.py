import numpy as np
import pytest

from panembed.datasets.folder import FolderDataset
from panembed.datasets.layout import open_dataset
from panembed.datasets.sample import Dataset
from panembed.datasets.synthetic import SyntheticDataset, rosette, write_folder
from panembed.errors import InputError, OutputError


def test_same_seed_same_plant():
    first, again, other = rosette(4, 64), rosette(4, 64), rosette(5, 64)
    np.testing.assert_array_equal(first.image, again.image)
    assert first.truth == again.truth
    assert (first.image != other.image).any()


@pytest.mark.parametrize("size", [16, 97, (40, 90)])
def test_shapes_and_classes(size):
    sample = rosette(1, size)
    assert sample.size == ((size, size) if isinstance(size, int) else size)
    assert sample.image.dtype == np.uint8
    np.testing.assert_array_equal(sample.truth.semantic == 1, sample.truth.instance > 0)
    ids, areas = np.unique(sample.truth.instance, return_counts=True)
    assert ids.tolist() == list(range(len(ids)))
    assert (areas[1:] >= 4).all()


@pytest.mark.parametrize("num_leaves", [1, 2, 9])
def test_number_of_leaves(num_leaves):
    assert rosette(2, 128, num_leaves).truth.num_instances == num_leaves


def test_labels_lie_on_the_leaves():
    sample = rosette(0, 128)
    leaf = sample.truth.instance > 0
    red, green, blue = np.moveaxis(sample.image.astype(int), -1, 0)
    greenish = green - (red + blue) / 2
    assert greenish[leaf].mean() > greenish[~leaf].mean() + 25


def test_leaves_overlap_and_differ():
    sample = rosette(0, 192, 12)
    touching = sample.truth.instance[:, :-1] != sample.truth.instance[:, 1:]
    both = (sample.truth.instance[:, :-1] > 0) & (sample.truth.instance[:, 1:] > 0)
    assert (touching & both).sum() > 40
    areas = np.bincount(sample.truth.instance.ravel())[1:]
    assert areas.max() > 4 * areas.min()


def test_dataset():
    dataset = SyntheticDataset(3, seed=9998, size=32)
    assert isinstance(dataset, Dataset)
    assert dataset.ids == ["plant09998", "plant09999", "plant10000"]
    assert len(dataset) == 3
    sample = dataset.load(dataset.ids[1])
    assert sample.id == dataset.ids[1]
    np.testing.assert_array_equal(sample.image, rosette(9999, 32).image)
    assert dataset.read_truth(sample.id) == sample.truth
    np.testing.assert_array_equal(dataset.read_image(sample.id), sample.image)
    with pytest.raises(InputError, match="no made-up image is called 'x'"):
        dataset.load("x")


def test_mistakes():
    with pytest.raises(ValueError, match="16 pixels"):
        rosette(0, 15)
    with pytest.raises(ValueError, match="num_leaves"):
        rosette(0, 32, 0)
    with pytest.raises(ValueError, match="num_images"):
        SyntheticDataset(0)


def test_written_folder_reads_back(tmp_path):
    dataset = SyntheticDataset(3, size=48)
    write_folder(dataset, tmp_path / "plants")
    read = open_dataset(tmp_path / "plants")
    assert isinstance(read, FolderDataset)
    assert read.ids == dataset.ids
    for id in dataset.ids:
        np.testing.assert_array_equal(read.read_image(id), dataset.read_image(id))
        assert read.read_truth(id) == dataset.read_truth(id)
    with pytest.raises(OutputError, match="is in use"):
        write_folder(dataset, tmp_path / "plants")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        write_folder(dataset, tmp_path / "file")
