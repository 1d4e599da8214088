"""Pictures of panoptic maps: every pixel's colour follows from its class and object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.segmentation import find_boundaries

from panembed.io.contact_sheet import contact_sheet
from panembed.io.legend import legend, write_legend
from panembed.io.overlay import color_map, overlay
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap

LEAVES = LabelSet([Category(0, "soil", False, (90, 60, 30)), Category(1, "leaf", True)])
STREET = LabelSet(
    [
        Category(7, "road", False, (128, 64, 128)),
        Category(23, "sky", False, (70, 130, 180)),
        Category(26, "car", True),
        Category(24, "person", True),
    ]
)


def scene() -> PanopticMap:
    """Two leaves that touch, one that stands alone, leaf pixels without object, and void."""
    semantic, instance = np.zeros((40, 50), int), np.zeros((40, 50), int)
    semantic[5:15, 5:25] = 1
    instance[5:15, 5:15], instance[5:15, 15:25] = 1, 2
    semantic[20:30, 30:45], instance[20:30, 30:45] = 1, 9
    semantic[33:37, 3:9] = 1
    semantic[0:3, 40:50] = IGNORE
    return PanopticMap(semantic, instance)


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, (40, 50, 3), dtype=np.uint8)


def test_color_map_paints_each_segment_in_one_color() -> None:
    panoptic = scene()
    picture = color_map(panoptic, LEAVES)
    assert (picture.shape, picture.dtype) == ((40, 50, 3), np.uint8)
    assert (picture[panoptic.semantic == 0] == (90, 60, 30)).all()
    void = (panoptic.semantic == IGNORE) | ((panoptic.semantic == 1) & (panoptic.instance == 0))
    assert (picture[void] == 0).all()
    colors = [np.unique(picture[panoptic.instance == n], axis=0) for n in (1, 2, 9)]
    assert all(len(c) == 1 for c in colors)
    assert len(np.unique(np.concatenate(colors), axis=0)) == 3


def test_objects_of_two_classes_have_their_own_colors() -> None:
    picture = color_map(PanopticMap([[2, 3, 2, 3]], [[1, 1, 2, 2]]), STREET)
    assert len(np.unique(picture[0], axis=0)) == 4


def test_shades_tell_the_class() -> None:
    """Of thirty objects of each class: nearer to their own class's hue than to the other's, and no two alike."""
    field = LabelSet(
        [Category(0, "soil", False), Category(1, "leaf", True, (0, 200, 0)), Category(2, "weed", True, (200, 0, 0))]
    )
    numbers = np.arange(1, 31)
    picture = color_map(PanopticMap(np.repeat([[1], [2]], 30, axis=1), np.stack([numbers, numbers])), field)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 60
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    assert (green[0] > red[0] + 40).all()
    assert (green[0] > blue[0] + 40).all()
    assert (red[1] > green[1] + 40).all()
    assert (red[1] > blue[1] + 40).all()


def test_outlines_are_wider_in_large_pictures() -> None:
    instance = np.zeros((200, 3700), int)
    instance[50:150, 1000:3000] = 1
    picture = overlay(np.zeros((200, 3700, 3), np.uint8), PanopticMap(np.minimum(instance, 1), instance), LEAVES)
    assert np.count_nonzero((picture[:, 2000] == 255).all(1)) == 12  # six at the top, six below


def test_a_single_stuff_class_stays_as_it_is() -> None:
    panoptic, image = scene(), photo()
    before = image.copy()
    picture = overlay(image, panoptic, LEAVES)
    objects = panoptic.instance > 0
    outline = (picture == 255).all(2)
    assert np.array_equal(picture[~objects & ~outline], image[~objects & ~outline])
    colors = color_map(panoptic, LEAVES)
    inside = objects & ~outline
    mixed = (image[inside].astype(float) + colors[inside]) / 2
    assert np.abs(picture[inside] - mixed).max() <= 1
    assert np.array_equal(image, before)


def test_several_stuff_classes_are_tinted_and_void_is_not() -> None:
    # The last is a car's pixel that belongs to no object.
    panoptic = PanopticMap([[0, 0, 1, 1, IGNORE, 2]], [[0, 0, 0, 0, 0, 0]])
    image = np.full((1, 6, 3), 100, np.uint8)
    picture = overlay(image, panoptic, STREET, opacity=0.25)
    assert np.abs(picture[0, 0] - (75 + 0.25 * np.array([128, 64, 128]))).max() <= 1
    assert np.abs(picture[0, 2] - (75 + 0.25 * np.array([70, 130, 180]))).max() <= 1
    assert picture[0, 4:].tolist() == [[100, 100, 100]] * 2


def test_outlines_are_where_objects_meet_anything_else() -> None:
    panoptic = scene()
    picture = overlay(np.zeros((40, 50, 3), np.uint8), panoptic, LEAVES, opacity=0.0)
    outline = (picture == 255).all(2)
    assert np.array_equal(outline, picture.any(2))
    assert not (outline & ~find_boundaries(panoptic.instance, mode="thick")).any()
    # Both leaves' border with each other, and the whole contour of the lone one, on one side or the other.
    assert outline[6:14, 14:16].any(1).all()
    for side in (outline[19:21, 31:44].any(0), outline[29:31, 31:44].any(0)):
        assert side.all()
    for side in (outline[21:29, 29:31].any(1), outline[21:29, 44:46].any(1)):
        assert side.all()


def test_opacity_1_is_the_color_map_inside_objects() -> None:
    panoptic = scene()
    picture = overlay(photo(), panoptic, LEAVES, opacity=1.0)
    inside = (panoptic.instance > 0) & ~(picture == 255).all(2)
    assert np.array_equal(picture[inside], color_map(panoptic, LEAVES)[inside])


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"image is \(40, 49\) but the map is \(40, 50\)"):
        overlay(photo()[:, 1:], scene(), LEAVES)


def test_the_legend_shows_what_the_overlay_paints() -> None:
    """Stuff where there are several such classes; things where their colours tell classes apart."""
    field = LabelSet(
        [Category(0, "soil", False), Category(1, "crop", True, (0, 90, 200)), Category(2, "weed", True, (200, 0, 9))]
    )
    for label_set, shown in ((STREET, ["road", "sky"]), (field, ["crop", "weed"])):
        picture = legend(label_set)
        assert picture is not None
        assert {tuple(color) for color in picture[:, 20].tolist()} - {(255, 255, 255), (0, 0, 0)} == {
            category.color for category in label_set if category.name in shown
        }
    assert legend(LEAVES) is None


def test_a_legend_is_written_where_one_is_needed_and_nothing_is_removed(tmp_path: Path) -> None:
    """What is called legend.png may be the user's own."""
    write_legend(tmp_path, LEAVES)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "legend.png").write_bytes(b"of a map")
    write_legend(tmp_path, LEAVES)
    assert (tmp_path / "legend.png").read_bytes() == b"of a map"
    write_legend(tmp_path, STREET)
    with Image.open(tmp_path / "legend.png") as picture:
        assert np.array_equal(np.asarray(picture), legend(STREET))


@pytest.mark.parametrize("sign", ["\n", "\r", "\0", "\x1c", "\x85", "\u2028", "\u2029", "\udce4"])
def test_names_may_hold_any_character(sign: str) -> None:
    odd, plain = ([LabelSet([Category(0, f"a{s}b", False), Category(1, "c", False)]), f"a{s}b"] for s in (sign, "?"))
    assert np.array_equal(legend(odd[0]), legend(plain[0]))
    pictures = [contact_sheet([(name, photo())], size=50) for _, name in (odd, plain)]
    assert np.array_equal(*pictures)
