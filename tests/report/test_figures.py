"""Figures are written, show something, and give found objects the colour of the true ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.colors import to_rgb
from matplotlib.legend import Legend
from PIL import Image

from panembed.datasets.cvppp import LEAVES
from panembed.datasets.synthetic import rosette
from panembed.errors import OutputError
from panembed.labels.categories import Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.error_census import TRUE_LABELS
from panembed.report.error_colors import ERROR_COLORS
from panembed.report.figures import (
    Comparison,
    _around_objects,
    comparison,
    error_maps,
    fates_by_size,
    loss_curves,
)
from panembed.report.matching_colors import match_colors

pytestmark = pytest.mark.slow  # each draws with matplotlib

TWO_THINGS = LabelSet([Category(0, "soil", False), Category(1, "leaf", True), Category(2, "weed", True)])


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def curve(epochs: int, *, validated: bool = True) -> list[dict[str, float | int]]:
    rows: list[dict[str, float | int]] = []
    for epoch in range(1, epochs + 1):
        row: dict[str, float | int] = {"epoch": epoch}
        row |= {f"train_{name}": 3.0 / epoch for name in ("loss", "semantic_loss", "instance_loss")}
        if validated and epoch % 2 == 0:
            row |= {f"val_{name}": 4.0 / epoch for name in ("loss", "semantic_loss", "instance_loss")}
            row |= {"val_pq_things": 0.6, "val_pq_stuff": 0.99, "val_sbd": 0.7}
        rows.append(row)
    return rows


@pytest.mark.parametrize("sign", ["\n", "\0", "\x85", "\udce4"])
def test_names_may_hold_any_character(tmp_path: Path, sign: str) -> None:
    plant = rosette(0, size=(64, 64), num_leaves=3)
    for number, s in enumerate((sign, "?")):
        classes = LabelSet([Category(0, "soil", False), Category(1, f"a{s}b", True), Category(2, "weed", True)])
        comparison([Comparison(f"c{s}d", None, plant.truth, plant.truth)], classes, tmp_path / f"{number}.png")
    assert np.array_equal(read(tmp_path / "0.png"), read(tmp_path / "1.png"))


def test_loss_curves_show_each_series(tmp_path: Path) -> None:
    loss_curves(curve(10), tmp_path / "both.png")
    loss_curves(curve(10, validated=False), tmp_path / "train.png")
    both, train = read(tmp_path / "both.png"), read(tmp_path / "train.png")
    blue, orange, green = (31, 119, 180), (255, 127, 14), (44, 160, 44)
    for color, in_train in ((blue, True), (orange, False), (green, False)):
        assert (both == color).all(2).sum() > 50
        assert ((train == color).all(2).sum() > 20) == in_train


def test_loss_curves_of_a_csv_file(tmp_path: Path) -> None:
    """Rows read from metrics.csv hold text, and empty text where there is no figure."""
    rows = curve(6)
    names = list(dict.fromkeys(key for row in rows for key in row))
    loss_curves(rows, tmp_path / "numbers.png")
    loss_curves([{name: str(row.get(name, "")) for name in names} for row in rows], tmp_path / "text.png")
    assert np.array_equal(read(tmp_path / "numbers.png"), read(tmp_path / "text.png"))


@pytest.mark.parametrize("rows", [[], curve(1, validated=False)])
def test_loss_curves_of_hardly_anything(tmp_path: Path, rows: list) -> None:
    loss_curves(rows, tmp_path / "a.png")
    assert read(tmp_path / "a.png").std() > 5


def test_comparison_has_a_row_for_each_image(tmp_path: Path) -> None:
    samples = [rosette(0, size=64), rosette(1, size=(48, 96))]
    rows = [Comparison(s.id, s.image, s.truth, s.truth, "PQ 1.00") for s in samples]
    comparison(rows[:1], LEAVES, tmp_path / "one.png")
    comparison(iter(rows), LEAVES, tmp_path / "two.png")
    one, two = read(tmp_path / "one.png"), read(tmp_path / "two.png")
    assert one.std() > 20
    assert two.shape[0] > one.shape[0] + 100
    assert two.shape[1] == one.shape[1]


def test_a_perfect_prediction_looks_like_the_truth(tmp_path: Path) -> None:
    sample = rosette(3, size=64)
    numbers = np.random.default_rng(0).permutation(np.arange(1, 100))
    renamed = np.where(sample.truth.instance > 0, numbers[sample.truth.instance], 0)
    prediction = PanopticMap(sample.truth.semantic, renamed)
    comparison([Comparison("a", sample.image, sample.truth, prediction)], LEAVES, tmp_path / "renamed.png")
    comparison([Comparison("a", sample.image, sample.truth, sample.truth)], LEAVES, tmp_path / "same.png")
    assert np.array_equal(read(tmp_path / "renamed.png"), read(tmp_path / "same.png"))


FOUND, MERGED, PIECE, SPURIOUS = (
    tuple(int(255 * channel + 1e-6) for channel in to_rgb(ERROR_COLORS[label]))
    for label in ("found", "merged", "split", "spurious")
)
SOIL, LEAF = LEAVES.stuff[0], LEAVES.things[0]


def leaves(*columns: tuple[int, int]) -> PanopticMap:
    """Leaves of 20 rows from one column to another, in a picture of 40 x 60."""
    instance = np.zeros((40, 60), dtype=np.int32)
    for number, (start, stop) in enumerate(columns, start=1):
        instance[10:30, start:stop] = number
    return PanopticMap(np.where(instance > 0, LEAF, SOIL), instance)


@pytest.mark.parametrize(
    ("true", "predicted", "colors"),
    [
        (leaves((5, 15), (30, 50)), leaves((5, 15), (30, 50)), {FOUND}),
        (leaves((5, 15), (20, 30)), leaves((5, 30)), {MERGED}),
        (leaves((5, 45)), leaves((5, 25), (25, 45)), {PIECE}),
        (leaves((5, 15)), leaves((5, 15), (30, 50)), {FOUND, SPURIOUS}),
    ],
    ids=["found", "merged", "split", "spurious"],
)
def test_errors_have_colors_and_need_no_photograph(
    tmp_path: Path, true: PanopticMap, predicted: PanopticMap, colors: set[tuple[int, int, int]]
) -> None:
    error_maps([Comparison("a", None, true, predicted)], LEAVES, tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    # A leaf is a tenth of the map and more; a legend's patch is less.
    assert {c for c in (FOUND, MERGED, PIECE, SPURIOUS) if (picture == c).all(2).mean() > 0.02} == colors


def test_a_lost_object_is_circled(tmp_path: Path) -> None:
    two = leaves((5, 15), (30, 50))
    rows = [Comparison("a", None, leaves((5, 15), (18, 26), (30, 50)), two), Comparison("a", None, two, two)]
    error_maps(rows, LEAVES, tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    lost, found = np.array_split(picture, 2, axis=1)
    # The two maps differ only by the circle, a ring of white between two of black, on black.
    assert (lost == 255).all(2).sum() > (found == 255).all(2).sum() + 100


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.lists(st.tuples(st.integers(0, 89), st.integers(0, 89)), max_size=4))
def test_what_is_shown_holds_all_objects_in_the_images_shape(
    height: int, width: int, places: list[tuple[int, int]]
) -> None:
    maps = [np.zeros((height, width), int), np.zeros((height, width), int)]
    for number, (y, x) in enumerate(places):
        maps[number % 2][y % height, x % width] = number + 1
    row = Comparison("a", None, *(PanopticMap(np.where(m > 0, LEAF, SOIL), m) for m in maps))
    (left, right), (top, bottom) = _around_objects(row, LEAVES)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert np.count_nonzero(np.maximum(*maps)[top:bottom, left:right]) == np.count_nonzero(np.maximum(*maps))
    assert abs((right - left) / width - (bottom - top) / height) <= 0.5 / width + 0.5 / height + 1e-9
    if not places:
        assert (right - left, bottom - top) == (width, height)


def test_dollar_signs_are_no_formulas(tmp_path: Path) -> None:
    truth = leaves((5, 15))
    for name in ("a$_$b", "$5 plant", "100$"):  # as formulas the first two would be an error
        error_maps([Comparison(name, None, truth, truth)], LEAVES, tmp_path / "a.png")
        comparison([Comparison(name, None, truth, truth)], LEAVES, tmp_path / "b.png")
    plain, dollar = (tmp_path / name for name in ("plain.png", "dollar.png"))
    error_maps([Comparison("x_0", None, truth, truth)], LEAVES, plain)
    error_maps([Comparison("$x_0$", None, truth, truth)], LEAVES, dollar)
    # Two characters more, and none set lower or in italics: more ink.
    assert (read(dollar) < 128).all(2).sum() > (read(plain) < 128).all(2).sum() + 10


@pytest.mark.parametrize("shape", [(2000, 8), (8, 2000)])
def test_extreme_images_make_pictures_to_look_at(tmp_path: Path, shape: tuple[int, int]) -> None:
    instance = np.zeros(shape, int)
    instance[2:6, 2:6] = 1
    truth = PanopticMap(np.where(instance > 0, LEAF, SOIL), instance)
    comparison([Comparison("a", None, truth, truth)], LEAVES, tmp_path / "a.png")
    error_maps([Comparison("a", None, truth, truth)], LEAVES, tmp_path / "b.png")
    assert all(max(read(tmp_path / name).shape) < 2500 for name in ("a.png", "b.png"))


LABELS = LabelSet([Category(0, "soil", False), Category(1, "leaf", True), Category(2, "weed", True)])


@pytest.fixture
def drawn(monkeypatch):
    """Figures that were saved, so that what is on them can be measured."""
    figures = []
    monkeypatch.setattr("panembed.report.figures._save", lambda figure, path: figures.append(figure))
    return figures


def assert_nothing_is_cut(figure) -> None:
    """Every title, name of an axis and entry of a legend lies within the figure's sides."""
    figure.draw_without_rendering()
    width, height = figure.bbox.width, figure.bbox.height
    texts = [text for legend in figure.findobj(Legend) for text in legend.get_texts()]
    texts += [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    texts = [text for text in texts if text.get_text().strip()]
    assert len(texts) > 3
    for text in texts:
        box = text.get_window_extent()
        inside = box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1
        assert inside, (text.get_text(), box)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("shape", [(60, 60), (40, 80), (80, 40)])
def test_nothing_is_cut_off_with_every_error_in_the_legend(drawn, tmp_path: Path, count, shape) -> None:
    """As with several classes and few images: the legends' longest."""
    rows = [
        Comparison(f"plant{n}", np.zeros((*shape, 3), np.uint8), *every_error(shape), "a caption") for n in range(count)
    ]
    comparison(rows, LABELS, tmp_path / "worst.png")
    error_maps(rows, LABELS, tmp_path / "errors.png")
    fates_by_size(
        [{"area_from": 1, "area_to": 9, "objects": 6, **dict.fromkeys(TRUE_LABELS, 1)}] * 4, tmp_path / "sizes.png"
    )
    for figure in drawn:
        assert_nothing_is_cut(figure)


def every_error(shape: tuple[int, int]) -> tuple[PanopticMap, PanopticMap]:
    """Truth and prediction with an object of each fate."""
    true, found = (np.zeros((2, *shape), int) for _ in range(2))
    side = 9

    def put(target, place, of, number, width=side, height=side):
        row, column = divmod(place, shape[1] // 10)
        top, left = 10 * row, 10 * column
        target[0, top : top + height, left : left + width] = of
        target[1, top : top + height, left : left + width] = number

    put(true, 0, 1, 1)
    put(found, 0, 1, 1)  # found
    put(true, 1, 1, 2)
    put(found, 1, 2, 2)  # of the wrong class
    put(true, 2, 1, 3)
    put(found, 2, 1, 3, width=4)  # a bad outline
    put(true, 3, 1, 4)  # missed
    put(found, 4, 1, 5)  # spurious
    return PanopticMap(*true), PanopticMap(*found)


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_short_training_can_be_seen(drawn, tmp_path: Path, epochs: int) -> None:
    """Each line in the legend has something to be seen, a point at least; what there is nothing of is not named."""
    rows = curve(epochs, validated=epochs > 1)
    rows[-1]["val_pq_things"] = float("nan")
    loss_curves(rows, tmp_path / "curves.png")
    (figure,) = drawn
    for axes in figure.axes:
        for line in axes.lines:
            assert len(line.get_xdata()) > 0
            assert line.get_marker() == "."
    names = [line.get_label() for axes in figure.axes for line in axes.lines]
    assert any("validation" in name for name in names) == (epochs > 1)
    assert_nothing_is_cut(figure)


def test_no_photograph_no_column_for_it(tmp_path: Path) -> None:
    truth = leaves((5, 15))
    color = (90, 40, 150)
    photograph = np.full((40, 60, 3), color, dtype=np.uint8)
    rows = [Comparison("a", image, truth, truth) for image in (photograph, None)]
    for name, drawn in (("one", rows[:1]), ("none", rows[1:]), ("mixed", rows)):
        comparison(drawn, LEAVES, tmp_path / f"{name}.png")
    one, none, mixed = (read(tmp_path / f"{name}.png") for name in ("one", "none", "mixed"))
    assert none.shape[1] < 0.8 * one.shape[1] == 0.8 * mixed.shape[1]
    # The one photograph is shown once, whoever else lacks it.
    shown = [(picture == color).all(2).sum() for picture in (one, none, mixed)]
    assert shown[0] > 10_000
    assert shown[1] == 0
    assert 0.8 * shown[0] < shown[2] < 1.2 * shown[0]


def test_stuff_alone_has_no_errors_to_draw(tmp_path: Path) -> None:
    stuff = LabelSet([Category(0, "soil", False), Category(1, "sky", False)])
    image, truth = np.zeros((40, 60, 3), np.uint8), PanopticMap(np.zeros((40, 60), np.uint8), np.zeros((40, 60), int))
    comparison([Comparison("a", image, truth, truth)], stuff, tmp_path / "stuff.png")
    comparison([Comparison("a", image, truth, truth)], LEAVES, tmp_path / "things.png")
    assert read(tmp_path / "things.png").shape[1] > 1.25 * read(tmp_path / "stuff.png").shape[1]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder does not exist"):
        loss_curves(curve(2), tmp_path / "missing" / "a.png")


SHAPE = (6, 7)
CLASSES = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 255]))
IDS = hnp.arrays(np.int32, SHAPE, elements=st.sampled_from([0, 1, 2, 3, 50]))


@settings(max_examples=50, deadline=None)
@given(CLASSES, IDS, CLASSES, IDS)
def test_match_colors_only_renames(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> None:
    prediction, truth = PanopticMap(a, b), PanopticMap(c, d)
    matched = match_colors(prediction, truth, TWO_THINGS)
    assert np.array_equal(matched.semantic, prediction.semantic)
    for thing in TWO_THINGS.things:
        inside = prediction.semantic == thing
        pairs = np.unique(np.stack([prediction.instance[inside], matched.instance[inside]]), axis=1)
        # One to one, and 0 stays 0.
        assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
        assert np.array_equal(pairs[0] == 0, pairs[1] == 0)
        true = np.where(truth.semantic == thing, truth.instance, 0)
        for name in pairs[1][pairs[1] > 0]:
            overlaps = ((matched.instance == name) & inside & (true == name)).any()
            assert overlaps or name not in true


@settings(max_examples=40, deadline=None)
@given(CLASSES, IDS, st.permutations([7, 8, 9, 10]))
def test_match_colors_undoes_any_renaming(classes: np.ndarray, ids: np.ndarray, names: list[int]) -> None:
    truth = PanopticMap(classes, np.where(np.isin(classes, TWO_THINGS.things), ids, 0))
    lookup = np.zeros(51, dtype=np.int32)
    lookup[[1, 2, 3, 50]] = names
    renamed = PanopticMap(classes, lookup[truth.instance])
    assert match_colors(renamed, truth, TWO_THINGS) == truth


def test_match_colors_gives_the_larger_overlap_first() -> None:
    truth = PanopticMap([[1] * 10], [[5] * 10])
    prediction = PanopticMap([[1] * 10], [[1] * 4 + [2] * 6])
    assert match_colors(prediction, truth, LEAVES).instance.tolist() == [[6] * 4 + [5] * 6]
    nothing = PanopticMap([[0] * 10], [[0] * 10])
    assert match_colors(prediction, nothing, LEAVES).num_instances == 2
    assert match_colors(nothing, truth, LEAVES) == nothing


class TestColorsOfErrors:
    def test_no_object_has_the_color_of_an_error(self) -> None:
        """Of the first 2,000 objects, whatever their hue, each is far from every colour that errors are painted in."""
        from panembed.labels.categories import distinct_color
        from panembed.metrics.error_census import PREDICTED_LABELS
        from panembed.report.error_colors import paler

        objects = paler(np.array([distinct_color(number) for number in range(1, 2001)], dtype=np.uint8)).astype(int)
        for label in PREDICTED_LABELS:
            error = 255 * np.array(to_rgb(ERROR_COLORS[label]))
            assert np.abs(objects - error).max(1).min() >= 60, label

    def test_errors_differ_in_pattern_too(self) -> None:
        from panembed.metrics.error_census import PREDICTED_LABELS
        from panembed.report.error_colors import pattern

        drawn = [pattern(label, (40, 60)) for label in PREDICTED_LABELS if label not in ("found", "ignored")]
        assert all(0.1 < mask.mean() < 0.6 for mask in drawn)
        assert len({mask.tobytes() for mask in drawn}) == len(drawn)

    def test_parts_of_the_loss_add_up(self) -> None:
        from panembed.report.figures import _weighted

        row = {"epoch": 1, "train_loss": 0.5, "train_semantic_loss": 0.2, "train_instance_loss": 1.0}
        (weighted,) = _weighted([row], "train")
        assert weighted["train_semantic_loss"] + weighted["train_instance_loss"] == 0.5
        assert _weighted([{"epoch": 1, "train_loss": ""}], "train") == [{"epoch": 1, "train_loss": ""}]


def test_the_worst_are_cropped_to_their_objects(tmp_path: Path) -> None:
    """A small object in a wide image fills its place: the picture is far less wide than the image's shape asks for."""
    semantic = np.zeros((60, 600), dtype=int)
    semantic[20:40, 300:320] = 1
    panoptic = PanopticMap(semantic, semantic)
    comparison([Comparison("a", None, panoptic, panoptic)], LEAVES, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        shown = np.asarray(picture.convert("RGB")).astype(int)
    background = np.abs(shown - np.array(LEAVES[0].color)).max(2) < 3
    leaf = (np.abs(shown - np.array([255, 255, 255])).max(2) > 40) & ~background & (shown.max(2) > 120)
    assert leaf.sum() > 0.1 * background.sum()


def test_errors_show_false_positives(tmp_path: Path) -> None:
    group = {"area_from": 1, "area_to": 9, "objects": 4, "found": 4}
    group |= dict.fromkeys(("merged", "split", "boundary", "wrong_class", "missed"), 0)
    predicted = {"objects": 5, "found": 4, "spurious": 1, "ignored": 0}
    predicted |= dict.fromkeys(("merged", "split", "boundary", "wrong_class"), 0)
    fates_by_size([group], tmp_path / "true.png")
    fates_by_size([group], tmp_path / "both.png", predicted)
    yellow = 255 * np.array(to_rgb(ERROR_COLORS["spurious"]))
    seen = []
    for name in ("true.png", "both.png"):
        with Image.open(tmp_path / name) as picture:
            seen.append(int((np.abs(np.asarray(picture.convert("RGB")) - yellow).max(2) < 4).sum()))
    assert seen[0] == 0
    assert seen[1] > 500
