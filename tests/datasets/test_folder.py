import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from panembed.datasets.folder import OBJECTS, FolderDataset, LabelCoding, label_coding, read_label_coding
from panembed.errors import InputError, SettingsError
from panembed.labels.categories import IGNORE, Category, LabelSet

DATA = os.environ.get("PANEMBED_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="PANEMBED_DATA is not set: no real images")
FIELD = LabelSet([Category(0, "soil", False), Category(1, "crop", True), Category(2, "weed", True)])
CELLS = np.kron(np.array([[0, 1, 1], [2, 0, 9]], np.uint16), np.ones((3, 3), np.uint16))
CODED = np.array([[0, 1000, 1001], [2, 2007, 65535]], np.uint16)

FIELD_YAML = """
encoding: class-instance
ignore: [65535]
classes:
  - {id: 0, name: soil, isthing: false}
  - {id: 1, name: crop, isthing: true, color: [1, 2, 3]}
  - {id: 2, name: weed, isthing: yes}
"""


def make(root, labels, *, folder="labels", yaml=None, image_suffix=".png", label_suffix=".png"):
    (root / "images").mkdir(parents=True)
    (root / folder).mkdir()
    for name, label in labels.items():
        label = np.asarray(label)
        Image.fromarray(np.full((*label.shape[:2], 3), 50, np.uint8)).save(root / "images" / (name + image_suffix))
        if label_suffix == ".tif":
            tifffile.imwrite(root / folder / (name + ".tif"), label)
        else:
            Image.fromarray(label).save(root / folder / (name + label_suffix))
    if yaml is not None:
        (root / "labels.yaml").write_text(yaml)
    return root


@pytest.mark.parametrize("folder", ["labels", "panoptic", "masks"])
@pytest.mark.parametrize(("image_suffix", "label_suffix"), [(".png", ".png"), (".JPG", ".tif"), (".tiff", ".png")])
def test_without_description_every_number_is_an_object(tmp_path, folder, image_suffix, label_suffix):
    labels = {"b.x": CELLS, "a": CELLS * 0}
    dataset = FolderDataset(
        make(tmp_path / "d", labels, folder=folder, image_suffix=image_suffix, label_suffix=label_suffix)
    )
    assert dataset.ids == ["a", "b.x"]
    assert dataset.label_set == OBJECTS
    sample = dataset.load("b.x")
    np.testing.assert_array_equal(sample.truth.instance, CELLS)
    np.testing.assert_array_equal(sample.truth.semantic, CELLS > 0)
    assert dataset.load("a").truth.num_instances == 0
    assert dataset.image_path("a") == tmp_path / "d" / "images" / f"a{image_suffix}"


def check_field(truth):
    assert truth.semantic.tolist() == [[0, 1, 1], [2, 2, IGNORE]]
    assert truth.instance.tolist() == [[0, 1, 2], [0, 8, 0]]
    assert truth.crowd == {(2, 0)}


def test_class_and_instance_by_labels_yaml(tmp_path):
    dataset = FolderDataset(make(tmp_path / "d", {"a": CODED}, yaml=FIELD_YAML))
    assert [(c.id, c.name, c.is_thing) for c in dataset.label_set] == [(c.id, c.name, c.is_thing) for c in FIELD]
    assert dataset.label_set[1].color == (1, 2, 3)
    check_field(dataset.read_truth("a"))


def test_class_and_instance_for_read_only_data(tmp_path):
    root = make(tmp_path / "d", {"a": CODED}, folder="panoptic")
    check_field(FolderDataset(root, FIELD, encoding="class-instance", ignore=[65535]).read_truth("a"))
    (tmp_path / "field.yaml").write_text(FIELD_YAML)
    check_field(FolderDataset(root, labels_file=tmp_path / "field.yaml").read_truth("a"))


def test_settings_speak_where_the_folder_does_not(tmp_path):
    otherwise = label_coding(yaml.safe_load(FIELD_YAML), "settings")
    bare = make(tmp_path / "bare", {"a": CODED}, folder="panoptic")
    check_field(FolderDataset(bare, otherwise=otherwise).read_truth("a"))
    ours = "classes: [{id: 0, name: bed, isthing: false}, {id: 1, name: cell, isthing: true}]"
    told = make(tmp_path / "told", {"a": CELLS}, yaml=ours)
    assert FolderDataset(told, otherwise=otherwise).coding.encoding == "instances"


def test_what_a_preset_says_is_no_word_on_packed_numbers(tmp_path):
    """Its objects may be leaves; but class * 1000 + object would be read as hundreds of them, and trained on."""
    otherwise = LabelCoding(OBJECTS)
    packed = make(tmp_path / "packed", {"a": CODED}, folder="panoptic")
    with pytest.raises(InputError, match="look like class"):
        FolderDataset(packed, otherwise=otherwise)
    cells = make(tmp_path / "cells", {"a": CELLS})
    assert FolderDataset(cells, otherwise=otherwise).load("a").truth.num_instances > 0


def test_a_few_bytes_of_yaml_make_no_endless_message(tmp_path):
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcde", "bcdef")]
    (tmp_path / "labels.yaml").write_text("\n".join(lines).replace("\nf:", "\nignore:") + "\nclasses: []\n")
    with pytest.raises(InputError) as raised:
        read_label_coding(tmp_path / "labels.yaml")
    assert len(str(raised.value)) < 5000


def test_arguments_go_before_the_file(tmp_path):
    root = make(tmp_path / "d", {"a": CODED}, yaml="classes: wrong")
    check_field(FolderDataset(root, FIELD, encoding="class-instance", ignore=[65535]).read_truth("a"))


def test_instances_with_own_class_numbers_and_ignore(tmp_path):
    yaml = "ignore: [9]\nclasses:\n- {id: 7, name: cell, isthing: 1}\n- {id: 3, name: glass, isthing: 0}\n"
    truth = FolderDataset(make(tmp_path / "d", {"a": CELLS}, yaml=yaml)).read_truth("a")
    np.testing.assert_array_equal(truth.semantic, np.select([CELLS == 9, CELLS > 0], [IGNORE, 0], 1))
    np.testing.assert_array_equal(truth.instance, np.where(CELLS == 9, 0, CELLS))


@pytest.mark.parametrize(
    ("label", "pieces"),
    [
        (np.pad(np.full((2, 2), 255, np.uint8), 1), "in one piece"),
        (np.kron(np.array([[1, 0, 1, 0, 1]], np.uint8), np.ones((2, 2), np.uint8)), "in 3 pieces"),
        (np.repeat(np.array([[[255], [0], [255]]], np.uint8), 3, axis=2), "in 2 pieces"),
    ],
)
def test_masks_are_refused_with_advice(tmp_path, label, pieces):
    root = make(tmp_path / "d", {"a": label})
    with pytest.raises(InputError, match=rf"labels/a\.png: is a mask of one number.*{pieces}") as caught:
        FolderDataset(root).load("a")
    assert "skimage.measure.label" in str(caught.value)
    assert "single_object: true" in str(caught.value)
    assert FolderDataset(root, single_object=True).load("a").truth.num_instances == 1
    classes = "classes:\n- {id: 0, name: a, isthing: 0}\n- {id: 1, name: b, isthing: 1}\n"
    (root / "labels.yaml").write_text("single_object: true\n" + classes)
    assert FolderDataset(root).load("a").truth.num_instances == 1


@pytest.mark.parametrize(
    "label", [[[1, 0, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[255, 0, 1]], [[0, 0, 0]], [[1, 1]]]
)
def test_what_may_be_right_is_taken(tmp_path, label):
    label = np.array(label, np.uint8)
    truth = FolderDataset(make(tmp_path / "d", {"a": label})).read_truth("a")
    np.testing.assert_array_equal(truth.instance, label)


def test_image_and_label_belong_together(tmp_path):
    root = make(tmp_path / "d", {"a": CELLS, "b": CELLS, "c": CELLS})
    (root / "labels" / "b.png").unlink()
    with pytest.raises(InputError, match=r"images/b\.png: has no label; expected a file b\.png .* in .*labels"):
        FolderDataset(root)
    (root / "images" / "a.png").unlink()
    with pytest.raises(InputError, match=r"labels/a\.png: has no image.*2 files are without a partner"):
        FolderDataset(root)


def test_letters_with_marks_are_one_however_they_are_spelt(tmp_path):
    """Archives made on a Mac spell them as a letter and a mark."""
    root = make(tmp_path / "d", {"Pr\u00e4parat": CELLS})
    (root / "labels/Pr\u00e4parat.png").rename(root / "labels/Pra\u0308parat.png")
    dataset = FolderDataset(root)
    assert dataset.ids == ["Pr\u00e4parat"]
    assert dataset.load(dataset.ids[0]).truth.num_instances == len(np.unique(CELLS)) - 1


def test_wrong_folders(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        FolderDataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no folder images/"):
        FolderDataset(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"exactly one folder of labels .* found none"):
        FolderDataset(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="no images found"):
        FolderDataset(tmp_path)
    (tmp_path / "labels").mkdir()
    with pytest.raises(InputError, match="found labels/ and masks/"):
        FolderDataset(tmp_path)


def test_two_files_of_one_name(tmp_path):
    root = make(tmp_path / "d", {"a": CELLS})
    (root / "images" / "a.jpg").touch()
    with pytest.raises(InputError, match=r"a\.png: has the same name as a\.jpg"):
        FolderDataset(root)


def test_other_size(tmp_path):
    root = make(tmp_path / "d", {"a": CELLS})
    Image.fromarray(CELLS[:, :-2]).save(root / "labels" / "a.png")
    with pytest.raises(InputError, match=r"labels/a\.png: label is 7x6 pixels, but its image a\.png is 9x6"):
        FolderDataset(root).load("a")
    Image.fromarray(CELLS.T.copy()).save(root / "labels" / "a.png")
    with pytest.raises(InputError, match=r"label is 6x9 .* is 9x6; .*; a JPEG is turned .* turn the label, too"):
        FolderDataset(root).load("a")


def test_unknown_class_names_file_and_classes(tmp_path):
    root = make(tmp_path / "d", {"a": np.array([[0, 5001]], np.uint16)}, yaml=FIELD_YAML)
    with pytest.raises(InputError, match=r"labels/a\.png: unknown class id 5 \(pixel value 5001\).*1 crop"):
        FolderDataset(root).read_truth("a")


def test_negative_numbers(tmp_path):
    root = make(tmp_path / "d", {"a": np.array([[0, -1, 4]], np.int16)}, label_suffix=".tif")
    with pytest.raises(InputError, match=r"labels/a\.tif: holds the number -1"):
        FolderDataset(root).read_truth("a")
    assert FolderDataset(root, ignore=[-1]).read_truth("a").semantic.tolist() == [[0, IGNORE, 1]]


TWO = "classes:\n- {id: 0, name: a, isthing: false}\n- {id: 1, name: b, isthing: true}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds nothing"),
        ("[1, 2", "not valid YAML"),
        ("encoding: instances", "no key classes"),
        ("clases: []", "unknown key clases.*did you mean 'classes'"),
        ("encodng: instances\n" + TWO, "unknown key encodng.*did you mean 'encoding'"),
        ("encoding: class_instance\n" + TWO, "encoding is 'class_instance'.*did you mean 'class-instance'"),
        ("encoding: 3\n" + TWO, "encoding is 3"),
        ("ignore: 255\n" + TWO, "ignore is 255; expected a list"),
        ("ignore: [a]\n" + TWO, "ignore is .*expected a list"),
        ("single_object: 1\n" + TWO, "single_object is 1; expected true or false"),
        ("single_object: true\nencoding: class-instance\n" + TWO, "single_object has no effect"),
        ("classes: 3", "classes is 3; expected a list"),
        ("classes: []", "classes is list; expected a list"),
        ("classes: [leaf]", r"classes\[0\] is 'leaf'; expected id"),
        ("classes: [{id: 1, name: a, is_thing: 1}]", r"unknown key classes\[0\]\.is_thing.*did you mean 'isthing'"),
        ("classes: [{id: 1, name: a}]", r"classes\[0\] has no isthing"),
        ("classes: [{id: x, name: a, isthing: 1}]", r"classes\[0\]\.id is 'x'; expected a whole number"),
        ("classes: [{id: true, name: a, isthing: 1}]", r"classes\[0\]\.id is True"),
        ("classes: [{id: 70000, name: a, isthing: 1}]", r"classes\[0\]\.id is 70000"),
        ("classes: [{id: 1, name: 5, isthing: 1}]", r"classes\[0\]\.name is 5; expected a text"),
        ("classes: [{id: 1, name: a, isthing: maybe}]", r"classes\[0\]\.isthing is 'maybe'"),
        ("classes: [{id: 1, name: a, isthing: 1, color: [1, 2]}]", r"classes\[0\]\.color is"),
        ("classes: [{id: 1, name: a, isthing: 1, color: [1, 2, 256]}]", r"classes\[0\]\.color is"),
        ("classes: [{id: 1, name: a, isthing: 1}]", "1 thing and 0 stuff classes; expected one of each"),
        (TWO + "- {id: 1, name: c, isthing: true}\n", "'1' occurs twice"),
        (TWO + "- {id: 2, name: c, isthing: true}\n", "2 thing and 1 stuff.*class-instance"),
        ("encoding: class-instance\nclasses: [{id: 0, name: a, isthing: 1}]", "a thing can't have id 0"),
    ],
)
def test_wrong_labels_yaml(tmp_path, text, words):
    root = make(tmp_path / "d", {"a": CELLS}, yaml=text)
    with pytest.raises(InputError, match=words) as caught:
        FolderDataset(root)
    assert str(caught.value).startswith(str(root / "labels.yaml"))
    assert "\n" not in str(caught.value)


def test_labels_yml_is_not_silently_skipped(tmp_path):
    root = make(tmp_path / "d", {"a": CELLS})
    (root / "labels.yml").write_text(TWO)
    with pytest.raises(InputError, match=r"expected the name labels\.yaml"):
        FolderDataset(root)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(max_size=30), st.integers(0, len(FIELD_YAML)).map(lambda n: FIELD_YAML[:n] + ":")))
def test_damaged_labels_yaml_gives_input_errors(tmp_path, text):
    (tmp_path / "labels.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        read_label_coding(tmp_path / "labels.yaml")


def test_arguments_that_do_not_go_together(tmp_path):
    root = make(tmp_path / "d", {"a": CELLS})
    with pytest.raises(SettingsError, match="labels_file is given together"):
        FolderDataset(root, FIELD, labels_file=tmp_path / "x.yaml")
    with pytest.raises(SettingsError, match="class-instance needs the classes"):
        FolderDataset(root, encoding="class-instance")
    with pytest.raises(SettingsError, match="2 thing and 1 stuff"):
        FolderDataset(root, FIELD)
    with pytest.raises(SettingsError, match="did you mean 'instances'"):
        LabelCoding(OBJECTS, "instance")
    with pytest.raises(InputError, match="no such file"):
        FolderDataset(root, labels_file=tmp_path / "x.yaml")


@needs_data
@pytest.mark.data
def test_real_nuclei_all_load():
    root = Path(DATA) / "nuclei"
    dataset = FolderDataset(root)
    assert len(dataset) == 300
    for id in dataset.ids:
        truth = dataset.load(id).truth
        with Image.open(root / "labels" / f"{id}.png") as label:
            np.testing.assert_array_equal(truth.instance, np.asarray(label))


@needs_data
@pytest.mark.data
def test_real_crops_and_weeds():
    dataset = FolderDataset(Path(DATA) / "cwfid", FIELD, encoding="class-instance", ignore=[65535])
    assert len(dataset) == 40
    seen = set()
    for id in dataset.ids:
        truth = dataset.load(id).truth
        with Image.open(dataset.label_path(id)) as label:
            numbers = np.asarray(label)
        objects = np.unique(numbers[(numbers >= 1000) & (numbers != 65535)])
        assert truth.num_instances == len(objects)
        seen |= set(np.unique(truth.semantic).tolist())
    assert {0, 1, 2} <= seen <= {0, 1, 2, IGNORE}
