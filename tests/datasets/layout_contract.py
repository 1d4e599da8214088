"""What must be true of every layout of a data set. A new reader gets its tests by a class of ten lines:

class TestMyLayout(LayoutContract):
    format = "my-layout"

    def write(self, root, images):
        for id, (image, truth) in images.items():
            ...  # files of this layout, by a library that is not ours
"""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from panembed.datasets.census import take_census
from panembed.datasets.convert import convert
from panembed.datasets.layout import LAYOUTS, layout_name, open_dataset
from panembed.datasets.part import choose_ids
from panembed.datasets.sample import Dataset
from panembed.datasets.splits import Split, choose_split
from panembed.errors import InputError, SettingsError
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap

OBJECTS = LabelSet([Category(0, "background", False), Category(1, "object", True)])
TWO_THINGS = LabelSet([Category(0, "background", False), Category(3, "crop", True), Category(8, "weed", True)])

Images = dict[str, tuple[np.ndarray, PanopticMap]]


def same_segments(a: PanopticMap, b: PanopticMap, label_set: LabelSet) -> bool:
    """Equal up to the numbers of the objects."""
    (map_a, table_a), (map_b, table_b) = a.segments(label_set), b.segments(label_set)
    if map_a.shape != map_b.shape:
        return False
    pairs = {tuple(pair) for pair in np.unique(np.stack([map_a, map_b]).reshape(2, -1), axis=1).T.tolist()} - {(0, 0)}
    kind_a, kind_b = ({s.id: (s.category, s.is_crowd) for s in table} for table in (table_a, table_b))
    one_to_one = len(pairs) == len(kind_a) == len(kind_b)
    return one_to_one and all(x and y and kind_a[x] == kind_b[y] for x, y in pairs)


def blocks(label_set: LabelSet, seed: int, shape: tuple[int, int] = (20, 24), *, crowd: bool = False) -> PanopticMap:
    """Rectangles, some of which touch, each an object, and holes between them; no void where there is stuff."""
    rng = np.random.default_rng(seed)
    semantic = np.full(shape, label_set.stuff[0])
    instance = np.zeros(shape, int)
    places = [(y, x) for y in range(0, shape[0] - 7, 8) for x in range(0, shape[1] - 7, 8)]
    for number, (y, x) in enumerate(places, start=1):
        height, width = rng.integers(3, 9, 2)
        semantic[y : y + height, x : x + width] = rng.choice(label_set.things)
        instance[y : y + height, x : x + width] = number
    return PanopticMap(semantic, instance, [(label_set.things[0], 1)] if crowd else ())


def picture(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """A photograph of noise: no two are alike."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def one_sentence(error: Exception) -> str:
    """The message, which is one line of bounded length, without a library's traceback."""
    text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    assert 20 < len(text) < 4000
    return text


class LayoutContract:
    """Derive, set `format`, and define `write`."""

    format: str
    """The layout's name in `LAYOUTS`."""

    label_set: LabelSet = OBJECTS
    """The classes that are read; ids, names and which are things."""

    ids: tuple[str, ...] = ("a", "b.x", "c d")
    """Names of images; sorted."""

    found_by_files = True
    """False where `--format` must be given."""

    kin: tuple[str, ...] = ()
    """Other layouts whose readers understand these files."""

    forms: tuple[str, ...] = ("folder", "coco-panoptic", "packed")
    """Layouts that can hold everything that this one says."""

    most_objects = 300
    """An image with so many objects is read right."""

    without_objects = True
    """An image may be without any object."""

    def write(self, root: Path, images: Images) -> None:
        """Write images with their truth as files of this layout into an empty folder."""
        raise NotImplementedError

    def truth_files(self, dataset: Dataset, id: str) -> list[Path]:
        """The files that say the truth of this image, and of no other."""
        path = dataset.label_path(id)  # type: ignore[attr-defined]
        return sorted(path.iterdir()) if path.is_dir() else [path]

    def make(self, root: Path, **changes: tuple[np.ndarray, PanopticMap]) -> Images:
        """Three images of this layout."""
        shapes = [(20, 24), (24, 20), (16, 16)]
        images = {
            id: (picture(number, shape), blocks(self.label_set, number, shape))
            for number, (id, shape) in enumerate(zip(self.ids, shapes, strict=True))
        }
        root.mkdir(parents=True, exist_ok=True)
        self.write(root, images | changes)
        return images | changes

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        self.make(tmp_path / "data")
        return tmp_path / "data"

    def place(self, root: Path) -> Path:
        """What a user names: the folder, or a file in it."""
        return root

    def open(self, root: Path) -> Dataset:
        return open_dataset(self.place(root), "auto" if self.found_by_files else self.format)

    def _broken(self, root: Path) -> dict[str, str]:
        """The reason of every image that can't be used, or of all where the data set doesn't open."""
        try:
            census = take_census(self.open(root))
        except InputError as error:
            return {"": one_sentence(error)}
        assert census.images + len(census.broken) <= max(len(self.ids), 1)
        return {id: one_sentence(InputError(reason)) for id, reason in census.broken.items()}

    def test_known_by_its_files(self, root: Path) -> None:
        if self.found_by_files:
            assert layout_name(root) == self.format
            assert type(open_dataset(root)) is type(open_dataset(root, self.format))
        assert layout_name(root, self.format) == self.format

    def test_strange_files_beside_do_no_harm(self, root: Path) -> None:
        before = self.open(root).ids
        for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
            for name in (".DS_Store", "._a.png", "Thumbs.db", "notes.md"):
                (folder / name).write_bytes(b"\0\1")
        assert self.open(root).ids == before
        assert self._broken(root) == {}

    def test_ids_and_classes(self, root: Path) -> None:
        dataset = self.open(root)
        assert isinstance(dataset, Dataset)
        assert dataset.ids == sorted(self.ids)
        assert len(dataset) == len(self.ids)
        kinds = [[(c.id, c.name, c.is_thing) for c in label_set] for label_set in (dataset.label_set, self.label_set)]
        assert kinds[0] == kinds[1]
        assert dataset.root == root
        assert all(dataset.image_path(id).is_file() for id in dataset.ids)
        assert str(len(dataset)) in repr(dataset)

    def test_reads_what_was_written(self, tmp_path: Path) -> None:
        images = self.make(tmp_path / "data")
        dataset = self.open(tmp_path / "data")
        for id, (image, truth) in images.items():
            sample = dataset.load(id)
            assert sample.id == id
            assert np.array_equal(sample.image, image)
            assert sample.truth.shape == image.shape[:2]
            assert same_segments(sample.truth, truth, dataset.label_set), id
            assert (sample.truth.instance[np.isin(sample.truth.semantic, dataset.label_set.stuff)] == 0).all()

    def test_twice_is_the_same_and_writes_nothing(self, root: Path, files_of) -> None:
        before = files_of(root)
        first, second = self.open(root), self.open(root)
        for id in first.ids:
            assert first.read_truth(id) == first.read_truth(id) == second.read_truth(id)
            assert np.array_equal(first.read_image(id), second.read_image(id))
            # Whoever has a truth may change it.
            first.read_truth(id).instance[:] = 0
            assert first.read_truth(id) == second.read_truth(id)
        assert files_of(root) == before

    def test_goes_to_other_processes(self, root: Path) -> None:
        """As workers that load training images need it."""
        dataset = self.open(root)
        other = pickle.loads(pickle.dumps(dataset))
        assert other.ids == dataset.ids
        assert other.read_truth(self.ids[0]) == dataset.read_truth(self.ids[0])

    def test_from_any_place(self, root: Path, monkeypatch) -> None:
        expected = self.open(root).read_truth(self.ids[0])
        monkeypatch.chdir(root)
        assert self.open(Path()).read_truth(self.ids[0]) == expected
        monkeypatch.chdir(root.parent)
        name = str(self.place(Path(root.name))) + ("/" if self.place(root) == root else "")
        assert open_dataset(name, self.format).read_truth(self.ids[0]) == expected

    def test_an_image_without_objects(self, tmp_path: Path) -> None:
        if not self.without_objects:
            pytest.skip("there is always one in this layout")
        nothing = PanopticMap(np.full((9, 7), self.label_set.stuff[0]), np.zeros((9, 7), int))
        self.make(tmp_path / "data", **{self.ids[1]: (picture(1, (9, 7)), nothing)})
        truth = self.open(tmp_path / "data").load(self.ids[1]).truth
        assert truth.num_instances == 0
        assert (truth.semantic == self.label_set.stuff[0]).all()

    def test_an_object_that_fills_the_image(self, tmp_path: Path) -> None:
        thing = self.label_set.things[-1]
        full = PanopticMap(np.full((6, 5), thing), np.ones((6, 5), int))
        self.make(tmp_path / "data", **{self.ids[0]: (picture(1, (6, 5)), full)})
        truth = self.open(tmp_path / "data").load(self.ids[0]).truth
        assert truth.num_instances == 1
        assert (truth.semantic == thing).all()
        assert len(np.unique(truth.instance)) == 1

    def test_many_small_objects(self, tmp_path: Path) -> None:
        side = int(np.ceil(np.sqrt(self.most_objects)))
        numbers = np.zeros((2 * side, 2 * side), int)
        numbers[::2, ::2] = np.arange(1, side**2 + 1).reshape(side, side)
        numbers[numbers > self.most_objects] = 0
        many = PanopticMap(np.where(numbers > 0, self.label_set.things[0], self.label_set.stuff[0]), numbers)
        self.make(tmp_path / "data", **{self.ids[0]: (picture(1, numbers.shape), many)})
        truth = self.open(tmp_path / "data").load(self.ids[0]).truth
        assert truth.num_instances == many.num_instances == self.most_objects
        assert same_segments(truth, many, self.label_set)

    def test_a_single_image(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        self.write(tmp_path / "data", {self.ids[0]: (picture(0, (8, 9)), blocks(self.label_set, 0, (8, 9)))})
        assert self.open(tmp_path / "data").ids == [self.ids[0]]

    def test_no_such_image(self, root: Path) -> None:
        dataset = self.open(root)
        for read in (dataset.image_path, dataset.read_image, dataset.read_truth, dataset.load):
            with pytest.raises(InputError) as caught:
                read("nobody")
            assert "no image is called 'nobody'" in one_sentence(caught.value)

    def test_one_broken_photograph_costs_one(self, root: Path) -> None:
        dataset = self.open(root)
        path = dataset.image_path(self.ids[1])
        path.write_bytes(path.read_bytes()[:40])
        census = take_census(self.open(root))
        assert list(census.broken) == [self.ids[1]]
        assert path.name in one_sentence(InputError(census.broken[self.ids[1]]))
        assert census.images == len(self.ids) - 1

    @pytest.mark.parametrize("content", ["cut", "empty", "other", "folder"])
    def test_one_broken_truth_costs_one(self, root: Path, content: str) -> None:
        dataset = self.open(root)
        for path in self.truth_files(dataset, self.ids[1])[:1]:
            whole = path.read_bytes()
            path.unlink()
            if content == "folder":
                path.mkdir()
            else:
                path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "other": b"\0\xff[{no"}[content])
            if len(set(map(dataset.label_path, self.ids))) == 1:  # type: ignore[attr-defined]
                # One file says the truth of all.
                with pytest.raises(InputError) as caught:
                    take_census(open_dataset(self.place(root), self.format))
                broken = {"": one_sentence(caught.value)}
            else:
                broken = self._broken(root)
                assert set(broken) <= {self.ids[1], ""}
                assert len(broken) <= 1
            for reason in broken.values():
                assert path.name in reason or path.stem in reason
            assert broken or content in ("empty", "folder")

    def test_a_photograph_of_another_size(self, root: Path) -> None:
        path = self.open(root).image_path(self.ids[1])
        Image.fromarray(picture(9, (40, 44))).save(path)
        broken = self._broken(root)
        if list(broken) == [self.ids[1]]:
            assert "44x40" in broken[self.ids[1]]
        else:
            # Outlines have no size of their own.
            assert broken == {}
            assert self.open(root).load(self.ids[1]).truth.shape == (40, 44)

    def test_a_photograph_that_is_missing(self, root: Path) -> None:
        path = self.open(root).image_path(self.ids[1])
        path.unlink()
        (reason,) = self._broken(root).values()
        assert path.stem in reason

    def test_a_truth_that_is_missing(self, root: Path) -> None:
        dataset = self.open(root)
        path = dataset.label_path(self.ids[1])  # type: ignore[attr-defined]
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        if len({dataset.label_path(id) for id in self.ids}) == 1:  # type: ignore[attr-defined]
            with pytest.raises(InputError) as caught:
                open_dataset(root, self.format)
            one_sentence(caught.value)
            return
        # Told in a sentence, or left out and said: never silently an image without objects.
        try:
            opened = open_dataset(self.place(root), self.format)
        except InputError as error:
            reason = one_sentence(error)
        else:
            self._left_out_or_unreadable(opened, path)
            return
        assert path.stem.partition("_")[0] in reason

    def _left_out_or_unreadable(self, opened: Dataset, path: Path) -> None:
        if self.ids[1] in opened.ids:
            with pytest.raises(InputError, match=path.stem):
                opened.read_truth(self.ids[1])
        else:
            assert self.ids[1] in opened.left_out

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="not recognised"):
            open_dataset(tmp_path)
        with pytest.raises(InputError) as caught:
            open_dataset(tmp_path, self.format)
        assert str(tmp_path) in one_sentence(caught.value)

    def test_empty_folders_inside(self, root: Path) -> None:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                path.unlink()
        with pytest.raises(InputError) as caught:
            open_dataset(root, self.format)
        assert str(root) in one_sentence(caught.value)

    def test_no_folder_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no such folder"):
            open_dataset(tmp_path / "nowhere", self.format)
        (tmp_path / "file.png").write_bytes(b"x")
        with pytest.raises(InputError, match="is a file"):
            open_dataset(tmp_path / "file.png", self.format)

    @pytest.mark.parametrize("other", LAYOUTS)
    def test_a_wrong_format_is_told(self, root: Path, other: str) -> None:
        """Another reader refuses the folder, or its images, in one sentence; it never finds objects that aren't."""
        if other in (self.format, *self.kin):
            pytest.skip("reads these files, too")
        try:
            dataset = open_dataset(root, other)
            census = take_census(dataset)
        except InputError as error:
            one_sentence(error)
        else:
            assert sum(census.per_image) == 0 or len(census.broken) == len(dataset)

    def test_options_without_effect(self, root: Path) -> None:
        with pytest.raises(SettingsError, match=f"'strange' has no effect on data format {self.format}"):
            open_dataset(root, self.format, strange=1)

    def test_split(self, root: Path) -> None:
        dataset = self.open(root)
        drawn = choose_split(dataset, seed=0, fractions=(0.6, 0.2, 0.2), official=False)
        assert sorted(drawn.train + drawn.val + drawn.test) == dataset.ids
        kept = Split((self.ids[2],), (self.ids[1],), (self.ids[0],))
        kept.write(root / "split.json")
        again = self.open(root)  # and is no part of the data
        assert again.ids == dataset.ids
        assert choose_split(again, seed=5, fractions=(0.6, 0.2, 0.2), official=False) == kept
        assert choose_ids(again, "test") == (self.ids[0],)

    def test_converts_and_back(self, root: Path, tmp_path: Path) -> None:
        dataset = self.open(root)
        Split(*((id,) for id in self.ids)).write(root / "split.json")
        for form in self.forms:
            (tmp_path / form).mkdir()
            convert(dataset, form, tmp_path / form)
            again = open_dataset(tmp_path / form)
            assert [(c.id, c.name, c.is_thing) for c in again.label_set] == [
                (c.id, c.name, c.is_thing) for c in dataset.label_set
            ]
            for one, other in zip(dataset.ids, again.ids, strict=True):
                assert same_segments(dataset.read_truth(one), again.read_truth(other), dataset.label_set), (form, one)
                assert np.array_equal(dataset.read_image(one), again.read_image(other))
            assert Split.read(tmp_path / form / "split.json").train == (again.ids[dataset.ids.index(self.ids[0])],)

    def test_census_counts_objects(self, tmp_path: Path) -> None:
        images = self.make(tmp_path / "data")
        census = take_census(self.open(tmp_path / "data"))
        assert census.broken == {}
        truths = [images[id][1] for id in sorted(images)]
        assert census.per_image == [truth.num_instances for truth in truths]
        for index, areas in census.areas.items():
            expected = []
            for truth in truths:
                numbers = truth.instance[(truth.semantic == index) & (truth.instance > 0)]
                expected += np.unique(numbers, return_counts=True)[1].tolist()
            assert sorted(areas) == sorted(expected)
        assert census.pixels[IGNORE] == 0
        assert sum(census.label_kinds.values()) == len(images)
        assert not any("unknown" in kind for kind in census.label_kinds)

    @pytest.mark.slow
    def test_data_check(self, cli, root: Path) -> None:
        options = () if self.found_by_files else ("--format", self.format)
        outcome = cli("data", "check", self.place(root), *options)
        assert outcome.code == 0, outcome.err
        assert "3 images" in outcome.out
        path = self.open(root).image_path(self.ids[0])
        path.write_bytes(b"GIF89a")
        outcome = cli("data", "check", self.place(root), *options)
        assert outcome.code == 3
        assert path.name in outcome.err.replace("\n", "")

    @pytest.mark.slow
    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    @given(data=st.data())
    def test_damaged_bytes(self, data: st.DataObject, tmp_path: Path) -> None:
        """An InputError or an answer: no other exception, no hang."""
        root = tmp_path / "data"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        self.write(root, {self.ids[0]: (picture(0, (8, 9)), blocks(self.label_set, 0, (8, 9)))})
        files = sorted(path for path in root.rglob("*") if path.is_file())
        path = data.draw(st.sampled_from(files))
        content = bytearray(path.read_bytes())
        del content[data.draw(st.integers(0, len(content))) :]
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)) if content else ():
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        self._broken(root)

    def test_unreadable_files(self, root: Path) -> None:
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        path = self.open(root).image_path(self.ids[0])
        path.chmod(0)
        (reason,) = self._broken(root).values()
        assert path.name in reason
