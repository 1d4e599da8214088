"""Every layout of label images keeps the contract; what only one of them knows is tested in a file of its own."""

import json

import numpy as np
import yaml
from layout_contract import TWO_THINGS, LayoutContract, blocks
from PIL import Image

from panembed.datasets.cvppp import LEAVES
from panembed.io.cityscapes import CITYSCAPES
from panembed.labels.categories import Category, LabelSet


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


class TestCvppp(LayoutContract):
    format = "cvppp"
    label_set = LEAVES
    ids = ("A1/plant001", "A2/plant001", "A4/plant0003")
    forms = ("folder", "coco-panoptic", "packed", "cvppp")

    def write(self, root, images):
        for id, (image, truth) in images.items():
            save(root / f"{id}_rgb.png", image)
            numbers = truth.instance
            if numbers.max() > 255:
                save(root / f"{id}_label.png", np.dstack([numbers % 256, numbers // 256, 0 * numbers]).astype(np.uint8))
            else:
                save(root / f"{id}_label.png", numbers.astype(np.uint8))


class TestCityscapes(LayoutContract):
    format = "cityscapes"
    label_set = CITYSCAPES
    ids = ("test/ulm/a", "train/bonn/b", "val/bonn/c")
    forms = ("coco-panoptic", "packed", "cityscapes")

    def write(self, root, images):
        for id, (image, truth) in images.items():
            save(root / f"leftImg8bit/{id}_leftImg8bit.png", image)
            classes = np.array([c.id for c in CITYSCAPES])[truth.semantic]
            number = np.where(truth.instance > 0, 1000 * classes + truth.instance - 1, classes)
            save(root / f"gtFine/{id}_gtFine_instanceIds.png", number.astype(np.uint16))


class TestFolder(LayoutContract):
    format = "folder"

    def write(self, root, images):
        for id, (image, truth) in images.items():
            save(root / f"images/{id}.png", image)
            save(root / f"labels/{id}.png", truth.instance.astype(np.uint16))


class TestFolderOfClasses(LayoutContract):
    """Eq. 2.1, with groups of objects that aren't told apart."""

    format = "folder"
    label_set = TWO_THINGS

    def write(self, root, images):
        ids = np.array([c.id for c in self.label_set])
        rows = [{"id": c.id, "name": c.name, "isthing": c.is_thing} for c in self.label_set]
        (root / "labels.yaml").write_text(yaml.safe_dump({"encoding": "class-instance", "classes": rows}))
        for id, (image, truth) in images.items():
            save(root / f"images/{id}.png", image)
            packed = np.where(truth.instance > 0, 1000 * ids[truth.semantic] + truth.instance - 1, ids[truth.semantic])
            save(root / f"panoptic/{id}.png", packed.astype(np.uint16))

    def test_groups(self, tmp_path):
        truth = blocks(self.label_set, 3)
        truth.instance[truth.semantic == 1] = 0
        self.make(tmp_path / "data", **{self.ids[0]: (np.zeros((*truth.shape, 3), np.uint8), truth)})
        assert self.open(tmp_path / "data").read_truth(self.ids[0]).crowd == {(1, 0)}


class TestCocoPanoptic(LayoutContract):
    format = "coco-panoptic"
    label_set = LabelSet([Category(184, "tree", False), Category(1, "person", True), Category(90, "brush", True)])
    ids = ("a", "b.x", "sub/c d")
    kin = ("coco-panoptic-2channel", "folder")  # whoever says folder, means the numbers in the pictures
    forms = ("folder", "coco-panoptic")
    annotated = True

    def truth_pixels(self, truth):
        """HxWx3, and the entries of segments_info."""
        ids, segments = np.unique(truth.semantic.astype(int) << 20 | truth.instance, return_inverse=True)
        number = segments.reshape(truth.shape) + 300
        info = [
            {"id": n + 300, "category_id": self.label_set[int(key) >> 20].id, "iscrowd": 0} for n, key in enumerate(ids)
        ]
        return np.dstack([number % 256, number // 256, 0 * number]).astype(np.uint8), info

    def write(self, root, images):
        listing = {"images": [], "annotations": [], "categories": []}
        listing["categories"] = [{"id": c.id, "name": c.name, "isthing": int(c.is_thing)} for c in self.label_set]
        for number, (id, (image, truth)) in enumerate(images.items()):
            height, width = truth.shape
            entry = {"id": number, "file_name": f"{id}.png", "height": height, "width": width}
            listing["images"].append(entry)
            save(root / f"images/{id}.png", image)
            pixels, info = self.truth_pixels(truth)
            save(root / f"panoptic/{id}.png", pixels)
            listing["annotations"].append({"image_id": number, "file_name": f"{id}.png", "segments_info": info})
        if not self.annotated:
            del listing["annotations"]
        (root / "panoptic.json").write_text(json.dumps(listing))


class TestTwoChannels(TestCocoPanoptic):
    format = "coco-panoptic-2channel"
    kin = ("coco-panoptic", "folder")
    found_by_files = False
    annotated = False
    most_objects = 200

    def place(self, root):
        return root / "panoptic.json"

    def truth_pixels(self, truth):
        red = np.array([c.id for c in self.label_set])[truth.semantic]
        return np.dstack([red, np.maximum(truth.instance - 1, 0), 0 * red]).astype(np.uint8), []
