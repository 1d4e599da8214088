"""COCO instance JSON, against pycocotools: the masks of its own tool, pixel by pixel."""

import json
import tracemalloc

import numpy as np
import pytest
from layout_contract import TWO_THINGS, LayoutContract, picture
from PIL import Image
from pycocotools import mask as coco_mask

from panembed.datasets.layout import layout_name, open_dataset
from panembed.errors import InputError

CATEGORIES = [{"id": 3, "name": "crop"}, {"id": 8, "name": "weed", "color": [1, 2, 3]}]


def rle(mask, compressed=True):
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    if compressed:
        return {"size": code["size"], "counts": code["counts"].decode()}
    flat = mask.ravel(order="F").astype(np.int8)
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=2))
    return {"size": list(mask.shape), "counts": np.diff(edges, prepend=0).tolist()}


class TestContract(LayoutContract):
    format = "coco"
    label_set = TWO_THINGS

    def segmentation(self, mask):
        return rle(mask)

    def write(self, root, images):
        data = {"images": [], "annotations": [], "categories": CATEGORIES}
        (root / "images").mkdir()
        (root / "annotations").mkdir()
        for number, (id, (image, truth)) in enumerate(images.items()):
            Image.fromarray(image).save(root / f"images/{id}.png")
            entry = {"id": number, "file_name": f"{id}.png", "height": image.shape[0], "width": image.shape[1]}
            data["images"].append(entry)
            for instance in np.unique(truth.instance[truth.instance > 0]).tolist():
                mask = truth.instance == instance
                category = self.label_set[int(truth.semantic[mask][0])].id
                row = {"id": len(data["annotations"]) + 1, "image_id": number, "category_id": category, "iscrowd": 0}
                data["annotations"].append(row | {"segmentation": self.segmentation(mask)})
        (root / "annotations/instances_train.json").write_text(json.dumps(data))


class TestContractOfCounts(TestContract):
    """Run-length codes that are not compressed."""

    def segmentation(self, mask):
        return rle(mask, compressed=False)


class TestContractOfPolygons(TestContract):
    """A polygon for every pixel of the outline's rows: the oracle is the mask itself."""

    def segmentation(self, mask):
        rows = []
        for y in np.flatnonzero(mask.any(axis=1)).tolist():
            edges = np.flatnonzero(np.diff(mask[y].astype(int), prepend=0, append=0)).reshape(-1, 2).tolist()
            rows += [[a, y, b, y, b, y + 1, a, y + 1] for a, b in edges]
        return rows


def one(root, annotations, shape=(30, 40), **changes):
    root.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(0, shape)).save(root / "a.png")
    rows = [{"id": n, "image_id": 7, "category_id": 3, "iscrowd": 0} | row for n, row in enumerate(annotations)]
    image = {"id": 7, "file_name": "a.png", "height": shape[0], "width": shape[1]}
    data = {"images": [image], "annotations": rows, "categories": CATEGORIES} | changes
    (root / "truth.json").write_text(json.dumps(data))
    return root


def star(rng, count=9):
    """A polygon with slanted edges that may cross each other, and reach out of the image."""
    return np.round(rng.uniform(-6, 44, (count, 2)), rng.integers(0, 4)).ravel().tolist()


@pytest.mark.parametrize("seed", range(12))
def test_label_maps_of_pycocotools(tmp_path, seed):
    """Polygons in several pieces, and codes: as pycocotools decodes each, the smaller on top."""
    rng = np.random.default_rng(seed)
    shape = (30, 40)
    drawn = [[star(rng, 5) for _ in range(rng.integers(1, 3))] for _ in range(6)]
    drawn += [rle(rng.random(shape) < 0.1), rle(rng.random(shape) < 0.3, compressed=False)]
    categories = rng.choice([3, 8], len(drawn)).tolist()
    root = one(tmp_path / "d", [{"segmentation": d, "category_id": c} for d, c in zip(drawn, categories)])
    masks = []
    for segmentation in drawn:
        packed = isinstance(segmentation, dict) and isinstance(segmentation["counts"], str)
        codes = segmentation if packed else coco_mask.frPyObjects(segmentation, *shape)
        masks.append(coco_mask.decode(coco_mask.merge(codes) if isinstance(codes, list) else codes).astype(bool))
    semantic, instance = np.zeros(shape, int), np.zeros(shape, int)
    for place in sorted(range(len(masks)), key=lambda n: (-masks[n].sum(), n)):
        semantic[masks[place]], instance[masks[place]] = {3: 1, 8: 2}[categories[place]], place + 1
    truth = open_dataset(root).read_truth("a")
    assert np.array_equal(truth.semantic, semantic)
    numbers = {number: place for place, number in enumerate(np.unique(instance).tolist())}
    found = {number: place for place, number in enumerate(np.unique(truth.instance).tolist())}
    assert len(numbers) == len(found)
    assert np.array_equal(np.vectorize(found.get)(truth.instance), np.vectorize(numbers.get)(instance))


def test_crowds_lie_below_and_are_one(tmp_path):
    small, large = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    small[5:8, 5:8], large[:20, :20] = True, True
    rows = [{"segmentation": rle(small), "iscrowd": 1}, {"segmentation": rle(large)}]
    rows += [{"segmentation": rle(~large), "iscrowd": 1}]
    dataset = open_dataset(one(tmp_path / "d", rows))
    truth = dataset.read_truth("a")
    assert truth.crowd == {(1, 0)}
    assert np.array_equal(truth.instance, large)
    assert (truth.semantic == 1).all()


def test_what_is_lost_is_counted(tmp_path):
    box = [10, 10, 20, 10, 20, 20, 10, 20]
    rows = [
        {"segmentation": [box], "score": 0.5},
        {"segmentation": [box]},
        {"segmentation": [[30, 20, 60, 20, 60, 28, 30, 28]]},
        {"segmentation": [], "bbox": [1, 1, 2, 2]},
        {"segmentation": [[100, 100, 110, 100, 110, 110]]},
    ]
    dataset = open_dataset(one(tmp_path / "d", rows))
    assert dataset.losses("a") == {
        "scores of objects": 1,
        "objects that reach out of the image, and are cut at its edge": 2,
        "annotations without an outline": 1,
        "objects without a pixel": 1,
        "pixels in more than one object": 100,
        "objects hidden by others": 1,
    }
    assert dataset.read_truth("a").num_instances == 2


def test_a_category_called_background_is_that(tmp_path):
    categories = [{"id": 0, "name": "Background"}, {"id": 1, "name": "cell"}]
    rows = [
        {"segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]], "category_id": 1},
        {"segmentation": [[2, 2, 4, 2, 4, 4, 2, 4]], "category_id": 0},
    ]
    dataset = open_dataset(one(tmp_path / "d", rows, categories=categories))
    assert [(c.id, c.name, c.is_thing) for c in dataset.label_set] == [(0, "background", False), (1, "cell", True)]
    truth = dataset.read_truth("a")
    assert truth.num_instances == 1
    assert np.count_nonzero(truth.semantic) == 77


def test_category_zero_keeps_its_id(tmp_path):
    dataset = open_dataset(one(tmp_path / "d", [], categories=[{"id": 0, "name": "cell"}, {"id": 1, "name": "bud"}]))
    assert [(c.id, c.name) for c in dataset.label_set] == [(2, "background"), (0, "cell"), (1, "bud")]


HUGE = {"size": [30, 40], "counts": [2**62, 2**62]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"segmentation": HUGE}, r"sum up to 9,223,372,036,854,775,808, but the image has 1,200"),
        ({"segmentation": {"size": [10**9, 10**9], "counts": [10**18]}}, r"size \[1000000000, 1000000000\]; expected"),
        ({"segmentation": {"size": [30, 40], "counts": "`" * 40}}, "letters that no run-length code has"),
        ({"segmentation": {"size": [30, 40], "counts": "\u20ac"}}, "letters that no run-length code has"),
        ({"segmentation": {"size": [30, 40], "counts": [-1, 1201]}}, "negative length"),
        ({"segmentation": {"size": [30, 40], "counts": [1.5, 1198.5]}}, "no whole numbers"),
        ({"segmentation": {"size": [30, 40]}}, "counts nothing"),
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "5 numbers; expected three corners"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "pairs of numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, "lists of numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, 1e300]]}, "within 1e"),
        ({"segmentation": "yes"}, "is 'yes'"),
        ({"segmentation": [[1, 1, 2, 2, 3, 1]], "category_id": 99}, "category_id 99; expected an id from categories"),
        ({"segmentation": [[1, 1, 2, 2, 3, 1]], "iscrowd": "no"}, "iscrowd 'no'; expected 0 or 1"),
    ],
)
def test_malformed_annotations(tmp_path, row, said):
    root = one(tmp_path / "d", [{"segmentation": [[0, 0, 5, 0, 5, 5]]}, row])
    with pytest.raises(InputError, match=said) as caught:
        open_dataset(root).read_truth("a")
    assert "truth.json: annotations[1] of a.png" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": [{"id": 7, "file_name": "../a.png"}]}, "leads out of the data"),
        ({"images": [{"id": 7, "file_name": "a.png", "height": 10**6, "width": 10**6}]}, "expected at most"),
        ({"images": [{"id": 7, "file_name": "a.png"}] * 2}, "of another; expected every image once"),
        ({"images": [{"id": 8, "file_name": "a.png"}]}, "image_id 7 is not in images"),
        ({"categories": [{"id": 3}]}, r"categories\[0\].name is nothing"),
        ({"categories": []}, "names no objects"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}]}, "boxes and no outlines"),
    ],
)
def test_malformed_files(tmp_path, change, said):
    root = one(tmp_path / "d", [{"segmentation": [[0, 0, 5, 0, 5, 5]]}])
    path = root / "truth.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=said) as caught:
        open_dataset(root, "coco")
    assert "truth.json" in str(caught.value)


def test_a_file_may_be_named(tmp_path):
    root = one(tmp_path / "d", [{"segmentation": [[0, 0, 5, 0, 5, 5, 0, 5]]}])
    (root / "other.json").write_bytes((root / "truth.json").read_bytes())
    with pytest.raises(InputError, match="several JSON files fit"):
        open_dataset(root)
    assert layout_name(root / "truth.json") == "coco"
    assert open_dataset(root / "truth.json").load("a").truth.num_instances == 1


def test_sizes_in_the_json_and_of_the_photograph(tmp_path):
    root = one(tmp_path / "d", [{"segmentation": [[0, 0, 5, 0, 5, 5, 0, 5]]}])
    Image.fromarray(picture(0, (30, 41))).save(root / "a.png")
    with pytest.raises(InputError, match=r"label is 40x30 pixels, but its image a\.png is 41x30"):
        open_dataset(root).load("a")


def test_a_project_and_its_class_of_one_name(tmp_path):
    """As Roboflow writes them: nothing is of the first."""
    categories = [{"id": 0, "name": "cell", "supercategory": "none"}, {"id": 1, "name": "cell"}]
    rows = [{"segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]], "category_id": 1}]
    dataset = open_dataset(one(tmp_path / "d", rows, categories=categories))
    assert [(c.id, c.name) for c in dataset.label_set] == [(0, "background"), (1, "cell")]


def test_a_size_that_is_claimed_takes_no_memory(tmp_path):
    tracemalloc.start()
    with pytest.raises(InputError):
        open_dataset(one(tmp_path / "d", [{"segmentation": HUGE}])).read_truth("a")
    big = {"segmentation": {"size": [10**6, 10**6], "counts": [10**12]}}
    with pytest.raises(InputError):
        open_dataset(one(tmp_path / "d", [big])).read_truth("a")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


@pytest.mark.parametrize("place", [".", "images", "data", "train", "images/train", "annotations"])
def test_where_photographs_may_lie(tmp_path, place):
    root = one(tmp_path / "d", [{"segmentation": [[0, 0, 5, 0, 5, 5, 0, 5]]}])
    (root / "annotations").mkdir()
    (root / "truth.json").rename(root / "annotations/instances_train.json")
    (root / place).mkdir(parents=True, exist_ok=True)
    (root / "a.png").rename(root / place / "a.png")
    assert open_dataset(root).load("a").truth.num_instances == 1
    (root / place / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png: the photograph was not found; looked in .*images"):
        open_dataset(root).load("a")
