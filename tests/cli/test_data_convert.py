"""`panembed data convert`: every layout holds the same segments."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hotcoco.panoptic import PanopticEval
from PIL import Image
from pycocotools.coco import COCO

from panembed.datasets.convert import FORMS, convert
from panembed.datasets.folder import OBJECTS
from panembed.datasets.layout import layout_name, open_dataset
from panembed.datasets.object_forms import OBJECT_FORMS
from panembed.datasets.sample import Sample
from panembed.datasets.splits import Split, make_split
from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import InputError, OutputError, SettingsError
from panembed.io.cityscapes import CITYSCAPES
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.panoptic_quality import PanopticQuality

pytestmark = pytest.mark.slow  # each runs a whole command

LEAVES = LabelSet([Category(0, "background", False), Category(1, "leaf", True)])
FIELD = LabelSet([Category(0, "soil", False), Category(1, "crop", True), Category(2, "weed", True)])
COCO_LIKE = LabelSet([Category(1, "person", True), Category(184, "tree", False), Category(90, "brush", True)])


class Made:
    """Maps in memory as a data set."""

    def __init__(self, label_set, maps, root="made"):
        self.label_set, self.root, self._maps = label_set, Path(root), maps
        self.ids = sorted(maps)

    def __len__(self):
        return len(self.ids)

    def image_path(self, id):
        return self.root / f"{id}.png"

    def read_image(self, id):
        return np.full((*self._maps[id].shape, 3), 50, np.uint8)

    def read_truth(self, id):
        return self._maps[id]

    def load(self, id):
        return Sample(self.read_image(id), self.read_truth(id), id)


def draw(label_set, seed, *, void=True, crowds=True):
    """Blocks of random classes, some absent, with void and at most one crowd a class."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(len(label_set), rng.integers(1, len(label_set) + 1), replace=False)
    choices = [*classes.tolist(), IGNORE] if void else classes.tolist()
    semantic = np.kron(rng.choice(choices, (5, 6)), np.ones((4, 4), int))
    instance = np.kron(rng.integers(0 if void else 1, 4, (5, 6)), np.ones((4, 4), int))
    crowd = [(thing, int(rng.integers(0, 4))) for thing in label_set.things] if crowds else []
    return PanopticMap(semantic, instance, crowd)


def changed(truth, seed):
    rng = np.random.default_rng(seed)
    semantic, instance = np.roll(truth.semantic, 1, axis=1), np.roll(truth.instance, 1, axis=1)
    other = draw_like(rng, truth)
    keep = np.kron(rng.random((5, 6)) < 0.7, np.ones((4, 4), bool))
    return PanopticMap(np.where(keep, semantic, other), np.where(keep, instance, 1 + instance % 3))


def draw_like(rng, truth):
    return rng.choice(np.unique(truth.semantic), truth.shape)


def same_segments(a, b, label_set):
    (map_a, table_a), (map_b, table_b) = a.segments(label_set), b.segments(label_set)
    joined = map_a.astype(np.int64) * (len(table_b) + 1) + map_b
    pairs = [divmod(key, len(table_b) + 1) for key in np.flatnonzero(np.bincount(joined.ravel())).tolist() if key]
    kind_a, kind_b = ({s.id: (s.category, s.is_crowd) for s in table} for table in (table_a, table_b))
    one_to_one = len(pairs) == len(kind_a) == len(kind_b)
    return one_to_one and all(x and y and kind_a[x] == kind_b[y] for x, y in pairs)


def assert_same(one, other, *, names=None):
    assert len(one) == len(other)
    if names is None:
        assert [(c.id, c.name, c.is_thing) for c in one.label_set] == [
            (c.id, c.name, c.is_thing) for c in other.label_set
        ]
    for a, b in zip(one.ids, other.ids, strict=True):
        assert same_segments(one.read_truth(a), other.read_truth(b), one.label_set), (a, b)
        assert np.array_equal(one.read_image(a), other.read_image(b))


def perfect(truth, again):
    quality = PanopticQuality(truth.label_set)
    for a, b in zip(truth.ids, again.ids, strict=True):
        quality.update(again.read_truth(b), truth.read_truth(a))
    result = quality.compute()
    scores = [result.all, *result.per_class.values()]
    return all(s.pq in (None, 1.0) and s.fp == s.fn == 0 for s in scores) and result.all.pq == 1.0


# What the layouts of single objects can say beside objects: void, crowds, several classes.
OBJECT_WAYS = {
    "coco": (False, True, True),
    "masks": (False, False, False),
    "stacks": (False, False, False),
    "labelme": (True, False, True),
    "yolo-seg": (False, False, True),
    "rois": (False, False, False),
    "geojson": (True, False, True),
}
WAYS = [
    (LEAVES, "coco-panoptic", True, True),
    (LEAVES, "folder", True, False),
    (LEAVES, "folder", True, True),
    (LEAVES, "cvppp", False, False),
    (LEAVES, "packed", True, True),
    (FIELD, "coco-panoptic", True, True),
    (FIELD, "folder", True, True),
    (FIELD, "packed", True, True),
    (CITYSCAPES, "cityscapes", True, True),
    (CITYSCAPES, "coco-panoptic", True, True),
    (CITYSCAPES, "packed", True, True),
    (COCO_LIKE, "coco-panoptic", True, True),
    (COCO_LIKE, "folder", True, True),
]


@pytest.mark.parametrize(("label_set", "form", "void", "crowds"), WAYS)
def test_lossless_and_perfect_against_itself(label_set, form, void, crowds, tmp_path):
    made = Made(label_set, {f"x{n}": draw(label_set, n, void=void, crowds=crowds) for n in range(6)})
    convert(made, form, tmp_path)
    # By its files alone: what is written is recognised.
    again = open_dataset(tmp_path)
    assert_same(made, again, names=False if form == "cvppp" else None)
    assert perfect(made, again)


SEEDS = range(6)


def speckled(label_set, seed, *, void, crowds, classes):
    """Objects with holes, islands, single pixels, and pixels at the border; some void, and a crowd."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 30)), int(rng.integers(1, 30)))
    coarse = np.kron(rng.integers(0, 5, (8, 8)), np.ones((4, 4), int))[: shape[0], : shape[1]]
    instance = np.where(rng.random(shape) < 0.15, rng.integers(0, 5, shape), coarse)
    of_object = rng.choice(label_set.things if classes else label_set.things[:1], 5)
    semantic = np.where(instance > 0, of_object[instance], label_set.stuff[0])
    if void:
        semantic[rng.random(shape) < 0.1] = IGNORE
    instance[semantic == IGNORE] = 0
    crowd = [(int(of_object[1]), 1)] if crowds else ()
    return PanopticMap(semantic, instance, crowd)


@pytest.mark.parametrize("form", OBJECT_FORMS)
@pytest.mark.parametrize("seed", SEEDS)
def test_layouts_of_single_objects_give_back_every_pixel(form, seed, tmp_path):
    void, crowds, classes = OBJECT_WAYS[form]
    label_set = FIELD if classes else LEAVES
    maps = {f"x{n}.y": speckled(label_set, 100 * seed + n, void=void, crowds=crowds, classes=classes) for n in range(6)}
    made = Made(label_set, maps)
    for _ in range(2):  # and again over it
        convert(made, form, tmp_path)
    again = open_dataset(tmp_path)
    assert layout_name(tmp_path) == form
    assert again.ids == made.ids
    # Classes come back in an order of their own, some only where they occur.
    names = {name: again.label_set.index_of(c.id) for c in again.label_set for name in [c.name]}
    for id in made.ids:
        truth, found = made.read_truth(id), again.read_truth(id)
        lookup = np.full(256, IGNORE)
        for index, category in enumerate(label_set):
            name = category.name if category.is_thing and classes else ("object" if category.is_thing else "background")
            lookup[index] = names.get("background" if not category.is_thing else name, 254)
        crowd = [(int(lookup[category]), number) for category, number in truth.crowd]
        expected = PanopticMap(lookup[truth.semantic], truth.instance, crowd)
        assert same_segments(expected, found, again.label_set), id
        assert not any("overlap" in what or "hidden" in what for what in again.losses(id))


@pytest.mark.parametrize("first", OBJECT_FORMS)
@pytest.mark.parametrize("second", OBJECT_FORMS)
def test_between_layouts_of_single_objects(first, second, tmp_path):
    made = Made(OBJECTS, {"a": speckled(OBJECTS, 5, void=False, crowds=False, classes=False)})
    for name, source in ((first, made), (second, None)):
        target = made_folder(tmp_path / f"to-{'first' if source else 'second'}")
        convert(source or open_dataset(tmp_path / "to-first"), name, target)
    assert_same(made, open_dataset(tmp_path / "to-second"))


@pytest.mark.parametrize("seed", SEEDS)
def test_pycocotools_reads_what_we_write(seed, tmp_path, capsys):
    truth = speckled(FIELD, seed, void=False, crowds=True, classes=True)
    convert(Made(FIELD, {"x": truth}), "coco", tmp_path)
    theirs = COCO(str(tmp_path / "instances.json"))
    segment_map, table = truth.segments(FIELD)
    objects = [segment for segment in table if FIELD[segment.category].is_thing]
    annotations = theirs.loadAnns(theirs.getAnnIds())
    assert len(annotations) == len(objects)
    for segment, annotation in zip(objects, annotations):
        assert np.array_equal(theirs.annToMask(annotation), segment_map == segment.id)
        assert (annotation["area"], annotation["bbox"]) == (segment.area, list(segment.bbox))
        assert annotation["category_id"] == FIELD[segment.category].id
        assert bool(annotation["iscrowd"]) == segment.is_crowd


@pytest.mark.parametrize("form", OBJECT_FORMS)
def test_what_layouts_of_single_objects_can_not_say(form, tmp_path):
    void, crowds, classes = OBJECT_WAYS[form]
    row = np.array([[0, 1, 1]])
    cases = [
        (FIELD, PanopticMap(row, row), classes, "2 thing classes"),
        (LEAVES, PanopticMap([[0, 255, 1]], [[0, 0, 1]]), void, "1 pixels have no class"),
        (LEAVES, PanopticMap(row, row, [(1, 1)]), crowds, "a group of objects"),
        (CITYSCAPES, PanopticMap(row * 0, row * 0), False, "11 stuff classes"),
    ]
    for number, (label_set, truth, can, said) in enumerate(cases):
        target = made_folder(tmp_path / str(number))
        if can:
            convert(Made(label_set, {"x": truth}), form, target)
            continue
        with pytest.raises(OutputError, match=f"x: .*{said}.*coco-panoptic"):
            convert(Made(label_set, {"x": truth}), form, target)
        assert not list(target.iterdir())


@pytest.mark.parametrize("first", ["coco-panoptic", "folder", "cvppp", "packed"])
@pytest.mark.parametrize("second", ["coco-panoptic", "folder", "cvppp", "packed"])
def test_there_and_on(first, second, tmp_path):
    plants = SyntheticDataset(2, size=48)
    for name, source in ((first, plants), (second, None)):
        target = tmp_path / f"to-{'first' if source else 'second'}"
        target.mkdir()
        convert(source or open_dataset(tmp_path / "to-first"), name, target)
    assert_same(plants, open_dataset(tmp_path / "to-second"), names=False)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("label_set", [FIELD, CITYSCAPES])
def test_converted_files_give_hotcoco_our_score(label_set, seed, tmp_path):
    truths = {f"x{n}": draw(label_set, 100 * seed + n) for n in range(5)}
    predictions = {id: changed(truth, seed) for id, truth in truths.items()}
    paths, opened = [], []
    for name, maps in (("truth", truths), ("prediction", predictions)):
        (tmp_path / name).mkdir()
        convert(Made(label_set, maps), "coco-panoptic", tmp_path / name)
        opened.append(open_dataset(tmp_path / name))
        # hotcoco looks for the PNGs in a folder called like the JSON.
        paths.append(str(tmp_path / name / "panoptic.json"))
    assert all(isinstance(value, int) for dataset in opened for value in dataset.image_ids.values())
    evaluation = PanopticEval(*paths)
    evaluation.evaluate()
    theirs = evaluation.results()
    quality = PanopticQuality(label_set)
    for id in truths:
        quality.update(opened[1].read_truth(id), opened[0].read_truth(id))
    ours = quality.compute()
    assert 0 < ours.all.pq < 1
    for name, score in (("All", ours.all), ("Things", ours.things), ("Stuff", ours.stuff)):
        for figure in ("pq", "sq", "rq"):
            value = theirs[name][figure]
            assert getattr(score, figure) == (None if value == -1 else pytest.approx(value, abs=1e-9))


def test_ids_in_folders(tmp_path):
    maps = {f"A{n}/plant1": draw(LEAVES, n, void=False, crowds=False) for n in (1, 2)}
    made, ids = Made(LEAVES, maps), {}
    for form in ("coco-panoptic", "cvppp", "folder"):
        (tmp_path / form).mkdir()
        convert(made, form, tmp_path / form)
        ids[form] = open_dataset(tmp_path / form).ids
    assert ids["coco-panoptic"] == ids["cvppp"] == made.ids
    assert ids["folder"] == ["A1_plant1", "A2_plant1"]
    clash = Made(LEAVES, {"a/b": maps["A1/plant1"], "a_b": maps["A2/plant1"]})
    with pytest.raises(OutputError, match="a_b: would get the same name as a/b"):
        convert(clash, "folder", made_folder(tmp_path / "clash"))


def test_cityscapes_ids(tmp_path):
    made = Made(CITYSCAPES, {"val/ulm/ulm_000001_000019": draw(CITYSCAPES, 1), "mine": draw(CITYSCAPES, 2)})
    convert(made, "cityscapes", tmp_path)
    dataset = open_dataset(tmp_path)
    assert dataset.ids == ["train/converted/mine", "val/ulm/ulm_000001_000019"]
    for id in dataset.ids:
        dataset.verify(id)


def test_what_a_layout_can_not_say(tmp_path):
    field = Made(FIELD, {"x": draw(FIELD, 1)})
    with pytest.raises(OutputError, match="x: the data has 2 thing and 1 stuff classes"):
        convert(field, "cvppp", tmp_path)
    with pytest.raises(OutputError, match="x: class 0 'soil' is not one of Cityscapes' 19"):
        convert(field, "cityscapes", tmp_path)
    assert not list(tmp_path.iterdir())
    row = np.arange(1, 1002)[None]
    many = Made(LEAVES, {"x": PanopticMap(np.ones_like(row), row)})
    with pytest.raises(OutputError, match="x: class 'leaf' has 1001 objects"):
        convert(many, "packed", tmp_path)
    two = Made(LEAVES, {"x": PanopticMap([[1, 1]], [[1, 2]], [(1, 1), (1, 2)])})
    with pytest.raises(OutputError, match="x: class 'leaf' has 2 crowds"):
        convert(two, "packed", tmp_path)


def test_photographs(tmp_path):
    plants = SyntheticDataset(2, size=32)
    (tmp_path / "a").mkdir()
    convert(plants, "folder", tmp_path / "a")
    source = open_dataset(tmp_path / "a")
    for way in ("copy", "link", "none"):
        (tmp_path / way).mkdir()
        convert(source, "coco-panoptic", tmp_path / way, images=way)
        image = tmp_path / way / "images/plant0000.png"
        assert image.is_symlink() == (way == "link")
        assert image.exists() == (way != "none")
    assert (tmp_path / "copy/images/plant0000.png").read_bytes() == (tmp_path / "a/images/plant0000.png").read_bytes()
    bare = open_dataset(tmp_path / "none")
    assert same_segments(bare.read_truth("plant0000"), plants.read_truth("plant0000"), plants.label_set)
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="photograph was not found"):
        convert(bare, "folder", tmp_path / "b")
    with pytest.raises(SettingsError, match="layout cvppp needs the photographs"):
        convert(bare, "cvppp", tmp_path / "b", images="none")
    with pytest.raises(OutputError, match="is the data set itself"):
        convert(source, "coco-panoptic", tmp_path / "a")


def test_a_jpeg_becomes_png_where_that_is_the_layout(tmp_path):
    (tmp_path / "d/images").mkdir(parents=True)
    (tmp_path / "d/labels").mkdir()
    Image.fromarray(np.full((4, 5, 3), 99, np.uint8)).save(tmp_path / "d/images/x.jpg")
    Image.fromarray(np.eye(4, 5).astype(np.uint8)).save(tmp_path / "d/labels/x.png")
    (tmp_path / "c").mkdir()
    convert(open_dataset(tmp_path / "d"), "cvppp", tmp_path / "c", images="link")
    assert (tmp_path / "c/x_rgb.png").read_bytes().startswith(b"\x89PNG")
    assert open_dataset(tmp_path / "c").load("x").image[0, 0].tolist() == [99, 99, 99]


def test_a_suffix_in_capitals(tmp_path):
    source = SyntheticDataset(1, size=32)
    convert(source, "folder", made_folder(tmp_path / "d"))
    (tmp_path / "d/images/plant0000.png").rename(tmp_path / "d/images/plant0000.PNG")
    convert(open_dataset(tmp_path / "d"), "cvppp", made_folder(tmp_path / "c"))
    assert open_dataset(tmp_path / "c").load("plant0000").image.tolist() == source.read_image("plant0000").tolist()


@pytest.mark.parametrize("images", ["copy", "link"])
def test_links_in_the_output_do_not_lead_back(tmp_path, files_of, images):
    """Else every photograph would become a link to itself."""
    convert(SyntheticDataset(2, size=32), "folder", made_folder(tmp_path / "d"))
    before = files_of(tmp_path / "d")
    for own in ("images", "labels"):
        place = made_folder(tmp_path / f"out-{own}")
        (place / own).symlink_to(tmp_path / "d" / own)
        with pytest.raises(OutputError, match=f"{own} leads to the data set's own files"):
            convert(open_dataset(tmp_path / "d"), "folder", place, images=images)
        assert files_of(tmp_path / "d") == before


def test_links_are_made_anew(tmp_path):
    convert(SyntheticDataset(2, size=32), "folder", made_folder(tmp_path / "d"))
    for photograph in (tmp_path / "d/images").iterdir():
        photograph.chmod(0o444)
    for _ in range(2):
        (tmp_path / "out").mkdir(exist_ok=True)
        convert(open_dataset(tmp_path / "d"), "folder", tmp_path / "out", images="link")
    link = tmp_path / "out/images/plant0001.png"
    assert link.readlink() == (tmp_path / "d/images/plant0001.png").resolve()
    assert not list(tmp_path.rglob(".*"))


def test_command(cli, tiny_data, tmp_path, files_of):
    before = files_of(tiny_data)
    outcome = cli("data", "convert", tiny_data, "--to", "coco-panoptic", "--output", tmp_path / "new")
    assert outcome.code == 0, outcome.err
    assert outcome.out == ""
    assert "10 images written" in outcome.err
    assert_same(open_dataset(tiny_data), open_dataset(tmp_path / "new"))
    assert files_of(tiny_data) == before
    again = cli("data", "convert", tiny_data, "--to", "coco-panoptic", "--output", tmp_path / "new")
    assert again.code == 1
    assert "--overwrite" in again.sentence()
    over = cli("data", "convert", tiny_data, "--to", "coco-panoptic", "--output", tmp_path / "new", "--overwrite")
    assert over.code == 0, over.err


def test_wrong_use_of_the_command(cli, tiny_data, tmp_path):
    outcome = cli("data", "convert", tiny_data, "--to", "coco-panoptik", "--output", tmp_path / "new")
    assert outcome.code == 2
    assert "did you mean 'coco-panoptic'?" in outcome.sentence()
    assert not (tmp_path / "new").exists()
    outcome = cli("data", "convert", tiny_data, "--to", "folder", "--output", tmp_path / "new", "--images", "move")
    assert outcome.code == 2
    assert "expected copy, link, none" in outcome.sentence()


def test_help_names_every_form(cli):
    out = cli("data", "convert", "--help").out
    assert all(form in out for form in FORMS)


def test_packed_folder_without_labels_yaml(cli, tmp_path):
    convert(Made(FIELD, {"x": draw(FIELD, 3)}), "packed", tmp_path)
    (tmp_path / "labels.yaml").rename(tmp_path / "mine.yaml")
    outcome = cli("data", "check", tmp_path)
    assert outcome.code == 1
    assert "--labels FILE" in outcome.sentence()
    assert "encoding: class-instance" in outcome.err
    assert cli("data", "check", tmp_path, "--labels", tmp_path / "mine.yaml").code == 0


@pytest.mark.parametrize(("folder", "refused"), [("labels", False), ("panoptic", True)])
def test_more_than_a_thousand_objects_are_not_mistaken(folder, refused, tmp_path):
    for name in ("images", folder):
        (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((1, 1201, 3), np.uint8)).save(tmp_path / "images/x.png")
    Image.fromarray(np.arange(1201, dtype=np.uint16)[None]).save(tmp_path / folder / "x.png")
    if refused:
        with pytest.raises(InputError, match="encoding: instances if every number is an object"):
            open_dataset(tmp_path)
    else:
        assert open_dataset(tmp_path).load("x").truth.num_instances == 1200


def test_official_split(cli, tiny_data, tmp_path):
    convert(Made(CITYSCAPES, {f"train/ulm/{n}": draw(CITYSCAPES, n) for n in range(5)}), "cityscapes", tmp_path)
    outcome = cli("data", "split", tmp_path, "--official")
    assert outcome.code == 0, outcome.err
    split = json.loads((tmp_path / "split.json").read_text())
    assert [len(split[part]) for part in ("train", "val", "test")] == [4, 1, 0]
    refused = cli("data", "split", tiny_data, "--official", "-o", tmp_path / "s.json")
    assert refused.code == 2
    assert "--official has no effect" in refused.sentence()


@pytest.fixture(scope="module")
def data():
    folder = os.environ.get("PANEMBED_DATA")
    if not folder:
        pytest.skip("PANEMBED_DATA is not set")
    return Path(folder)


class Part:
    """Some images of a data set."""

    def __init__(self, dataset, count):
        self._dataset, self.ids = dataset, dataset.ids[:count]

    def __len__(self):
        return len(self.ids)

    def __getattr__(self, name):
        return getattr(self._dataset, name)


@pytest.mark.data
@pytest.mark.slow
def test_real_cityscapes_to_coco_and_back(data, tmp_path):
    cityscapes = open_dataset(data / "cityscapes")
    convert(cityscapes, "coco-panoptic", made_folder(tmp_path / "coco"), images="link")
    coco = open_dataset(tmp_path / "coco")
    convert(coco, "cityscapes", made_folder(tmp_path / "back"), images="link")
    back = open_dataset(tmp_path / "back")
    assert coco.ids == back.ids == cityscapes.ids
    for id in cityscapes.ids:
        truth = cityscapes.read_truth(id)
        assert same_segments(truth, coco.read_truth(id), CITYSCAPES)
        assert same_segments(truth, back.read_truth(id), CITYSCAPES)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "forms", "count"),
    [
        ("cvppp", ("coco-panoptic", "folder", "cvppp", "packed"), 2),
        ("nuclei", ("coco-panoptic", "folder", "cvppp", "packed"), 3),
        ("coco_panoptic_sample", ("coco-panoptic", "folder"), 2),
    ],
)
def test_real_data_in_every_form(name, forms, count, data, tmp_path):
    source = Part(open_dataset(data / name), count)
    for form in forms:
        convert(source, form, made_folder(tmp_path / form), images="link")
        again = open_dataset(tmp_path / form)
        for a, b in zip(source.ids, again.ids, strict=True):
            assert same_segments(source.read_truth(a), again.read_truth(b), source.label_set)
        assert perfect(source, again)


def made_folder(path):
    path.mkdir()
    return path


@pytest.mark.parametrize("form", [form for form in FORMS if form != "cityscapes"])
def test_a_split_goes_along(tmp_path, form):
    """Under the new names: else a model's test images would be drawn into training."""
    source = made_folder(tmp_path / "cvppp")
    convert(SyntheticDataset(6, size=32), "cvppp", source)
    for path in list(source.glob("*.png")):
        (source / "A1").mkdir(exist_ok=True)
        path.rename(source / "A1" / path.name)
    dataset = open_dataset(source)
    assert all(id.startswith("A1/") for id in dataset.ids)
    split = make_split(dataset.ids, seed=3)
    split.write(source / "split.json")
    convert(dataset, form, made_folder(tmp_path / "out"))
    made, kept = open_dataset(tmp_path / "out"), Split.read(tmp_path / "out/split.json")
    kept.check(made.ids)
    assert (kept.seed, kept.fractions) == (3, split.fractions)
    for part in ("train", "val", "test"):
        names = [id.rpartition("/")[2].removeprefix("A1_") for id in kept.select(part)]
        assert names == [id.rpartition("/")[2] for id in split.select(part)]


def test_an_official_split_goes_along(tmp_path):
    def city(part, count):
        return {f"{part}/town/{n}": PanopticMap(np.full((8, 8), 0), np.zeros((8, 8), int)) for n in range(count)}

    convert(Made(CITYSCAPES, city("train", 5) | city("val", 2)), "cityscapes", made_folder(tmp_path / "city"))
    convert(open_dataset(tmp_path / "city"), "coco-panoptic", made_folder(tmp_path / "coco"))
    split = Split.read(tmp_path / "coco/split.json")
    assert set(split.test) == {"val/town/0", "val/town/1"}
    split.check(open_dataset(tmp_path / "coco").ids)
    # Without its test images it has none to keep.
    convert(Made(CITYSCAPES, city("train", 5)), "cityscapes", made_folder(tmp_path / "half"))
    convert(open_dataset(tmp_path / "half"), "coco-panoptic", made_folder(tmp_path / "half-coco"))
    assert not (tmp_path / "half-coco/split.json").exists()


def test_a_split_that_does_not_fit_is_told_before_anything_is_written(tmp_path):
    convert(SyntheticDataset(4, size=32), "folder", made_folder(tmp_path / "a"))
    make_split(["x", "y", "z"]).write(tmp_path / "a/split.json")
    with pytest.raises(InputError, match="not in the data"):
        convert(open_dataset(tmp_path / "a"), "coco-panoptic", made_folder(tmp_path / "b"))
    assert not list((tmp_path / "b").iterdir())
