"""COCO panoptic files: round trips, hotcoco as their reader, real files, and every mistake told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotcoco.panoptic import PanopticEval
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from panembed.errors import InputError, OutputError
from panembed.io.coco_panoptic import (
    CocoPanopticWriter,
    annotation,
    categories,
    decode_ids,
    encode_ids,
    panoptic_map,
)
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.panoptic_quality import PanopticQuality

LABEL_SET = LabelSet([Category(7, "sky", False), Category(0, "car", True), Category(900, "person", True)])

shapes = st.tuples(st.integers(1, 7), st.integers(1, 7))
maps = shapes.flatmap(
    lambda shape: st.builds(
        PanopticMap,
        arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, IGNORE])),
        arrays(np.int32, shape, elements=st.sampled_from([0, 1, 2, 5, 2**31 - 1])),
        st.sets(st.sampled_from([(1, 0), (1, 2), (2, 0), (2, 5), (2, 2**31 - 1)])),
    )
)


@settings(max_examples=50, deadline=None)
@given(ids=arrays(np.int64, shapes, elements=st.integers(0, 256**3 - 1)))
def test_ids_survive_the_colours(ids: np.ndarray) -> None:
    rgb = encode_ids(ids)
    assert (rgb.dtype, rgb.shape) == (np.uint8, (*ids.shape, 3))
    red, green, blue = (rgb[..., c].astype(int) for c in range(3))
    np.testing.assert_array_equal(red + 256 * green + 256**2 * blue, ids)
    np.testing.assert_array_equal(decode_ids(rgb), ids)


@pytest.mark.parametrize("ids", [[[-1]], [[256**3]]])
def test_ids_out_of_range_are_told(ids: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"expected segment ids 0..16777215"):
        encode_ids(ids)


@settings(max_examples=60, deadline=None)
@given(panoptic=maps)
def test_round_trip_keeps_the_segments(panoptic: PanopticMap) -> None:
    rgb, entry = annotation(panoptic, LABEL_SET, 3, "a.png")
    assert json.loads(json.dumps(entry)) == entry
    assert (entry["image_id"], entry["file_name"]) == (3, "a.png")
    before, table = panoptic.segments(LABEL_SET)
    ids = decode_ids(rgb)
    np.testing.assert_array_equal(ids, before)
    for info, segment in zip(entry["segments_info"], table, strict=True):
        ys, xs = np.nonzero(ids == info["id"])
        box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
        assert (info["area"], info["bbox"], info["iscrowd"]) == (len(xs), box, int(segment.is_crowd))
        assert info["category_id"] == LABEL_SET[segment.category].id
    again = panoptic_map(rgb, entry["segments_info"], LABEL_SET)
    after, table_after = again.segments(LABEL_SET)
    pairs = {(int(a), int(b)) for a, b in zip(before.ravel(), after.ravel())}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    kinds = {s.id: (s.category, s.is_crowd, s.area, s.bbox) for s in table}
    kinds_after = {s.id: (s.category, s.is_crowd, s.area, s.bbox) for s in table_after}
    assert all(kinds.get(a) == kinds_after.get(b) for a, b in pairs)


def test_reading_numbers_objects_in_the_order_of_the_table() -> None:
    ids = np.array([[0, 300, 70000, 5, 6, 7, 8]])
    table = [
        {"id": 70000, "category_id": 900},
        {"id": 6, "category_id": 900, "iscrowd": 1},
        {"id": 300, "category_id": 900, "iscrowd": 0},
        {"id": 5, "category_id": 7},
        {"id": 7, "category_id": 900, "iscrowd": 1},
        {"id": 8, "category_id": 0},
    ]
    panoptic = panoptic_map(encode_ids(ids), table, LABEL_SET)
    assert panoptic.semantic.tolist() == [[IGNORE, 2, 2, 0, 2, 2, 1]]
    assert panoptic.instance.tolist() == [[0, 2, 1, 0, 0, 3, 1]]
    assert panoptic.crowd == {(2, 0), (2, 3)}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([{"id": 300, "category_id": 7}], "segment id 9 is in the image but not in segments_info"),
        (
            [{"id": 300, "category_id": 7}, {"id": 9, "category_id": 8}],
            "unknown category_id 8; .* 7 sky, 0 car, 900 person",
        ),
        (
            [{"id": 300, "category_id": 7}, {"id": 9, "category_id": 7}, {"id": 4, "category_id": 7}],
            "4 .* has no pixels",
        ),
        ([{"id": 300, "category_id": 7}, {"id": 2**30, "category_id": 7}], "has no pixels"),
        ([{"id": 300, "category_id": 7}] * 2, "segment id 300 occurs twice"),
        ([{"id": 0, "category_id": 7}], "id 0, which means void"),
        ([{"id": 300}], "expected a segment with id and category_id, found {'id': 300}"),
    ],
)
def test_wrong_tables_are_told(table: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        panoptic_map(encode_ids([[0, 300, 9]]), table, LABEL_SET, source="folder/a.png")
    assert str(error.value).startswith("folder/a.png: ")


@pytest.mark.parametrize("image", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3), int)])
def test_other_images_are_told(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected an HxWx3 uint8 RGB image"):
        decode_ids(image)
    with pytest.raises(InputError, match=r"a.png: expected an HxWx3 uint8 RGB image"):
        panoptic_map(image, [], LABEL_SET, source="a.png")


def random_map(seed: int, crowd: tuple[tuple[int, int], ...] = ()) -> PanopticMap:
    rng = np.random.default_rng(seed)
    grow = np.ones((4, 5), dtype=int)
    semantic = np.kron(rng.choice([0, 1, 1, 2, 2, IGNORE], size=(6, 6)), grow)
    return PanopticMap(semantic, np.kron(rng.integers(0, 3, size=(6, 6)), grow), crowd)


def test_hotcoco_reads_what_we_write_and_scores_it_as_we_do(tmp_path: Path) -> None:
    truths = [random_map(k, ((1, 0), (1, 2), (2, 1))) for k in range(4)]
    predictions = [PanopticMap(np.roll(t.semantic, 1, 0), np.roll(t.instance, 1, 0)) for t in truths]
    files, quality = [], PanopticQuality(LABEL_SET)
    for folder, panoptics in (("truth", truths), ("prediction", predictions)):
        with CocoPanopticWriter(tmp_path / folder, LABEL_SET) as writer:
            for k, panoptic in enumerate(panoptics):
                writer.add(f"aachen/{k}.jpeg", panoptic)
        files.append(tmp_path / folder / "panoptic.json")
    evaluation = PanopticEval(*map(str, files))
    evaluation.evaluate()
    theirs = evaluation.results()
    for prediction, truth in zip(predictions, truths, strict=True):
        quality.update(prediction, truth)
    ours = quality.compute()
    assert ours.things.tp > 0
    assert [ours.all.pq, ours.things.pq, ours.stuff.pq] == pytest.approx(
        [theirs[k]["pq"] for k in ("All", "Things", "Stuff")], abs=1e-9
    )


@pytest.mark.parametrize("seed", range(6))
def test_stuff_in_several_segments_scores_as_hotcoco_scores_it(seed: int, tmp_path: Path) -> None:
    """Files of other tools may have each patch of sky as a segment, in truth or prediction or both."""
    rng = np.random.default_rng(seed)
    label_set = LabelSet([Category(7, "sky", False), Category(3, "road", False), Category(1, "car", True)])
    quality, files = PanopticQuality(label_set), []
    maps: dict[str, list[PanopticMap]] = {"truth": [], "prediction": []}
    blocks = [rng.integers(0, 9, size=(4, 5)) for _ in range(4)]
    for name, parts in maps.items():
        (tmp_path / name).mkdir()
        annotations = []
        for number, block in enumerate(blocks):
            ids = np.kron(block, np.ones((5, 6), dtype=int)) * 1000
            if name == "prediction":
                ids = np.roll(ids, 1, axis=1)
                if seed % 2:
                    ids[ids == 3000] = 2000  # two patches of one class taken for one
            segments = [
                {"id": int(k), "category_id": (7, 7, 7, 3, 3, 3, 1, 1)[k // 1000 - 1], "iscrowd": 0}
                for k in rng.permutation(np.unique(ids[ids > 0]))
            ]
            for entry in segments:
                entry["area"], entry["bbox"] = int((ids == entry["id"]).sum()), [0, 0, 1, 1]
            rgb = encode_ids(ids)
            Image.fromarray(rgb).save(tmp_path / name / f"{number}.png")
            parts.append(panoptic_map(rgb, segments, label_set))
            annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
        images = [{"id": k, "file_name": f"{k}.jpg", "height": 20, "width": 30} for k in range(4)]
        content = {"images": images, "annotations": annotations, "categories": categories(label_set)}
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(content))
    evaluation = PanopticEval(*map(str, files))
    evaluation.evaluate()
    for prediction, truth in zip(maps["prediction"], maps["truth"], strict=True):
        quality.update(prediction, truth)
    assert any(truth.split_stuff for truth in maps["truth"])
    for category in label_set:
        score, theirs = quality.compute().per_class[category.name], evaluation.results()["per_class"][category.id]
        assert (score.tp, score.fp, score.fn) == (theirs["tp"], theirs["fp"], theirs["fn"])
        assert score.pq == pytest.approx(theirs["pq"], abs=1e-9)
    # Written again, the segments are still apart.
    rgb, entry = annotation(maps["truth"][0], label_set, 1, "a.png")
    assert (
        panoptic_map(rgb, entry["segments_info"], label_set).segments(label_set)[1]
        == maps["truth"][0].segments(label_set)[1]
    )


def test_writer_leaves_png_and_one_json(tmp_path: Path) -> None:
    with CocoPanopticWriter(tmp_path / "out" / "deep", LABEL_SET) as writer:
        assert writer.add("b.tif", random_map(0)) == tmp_path / "out" / "deep" / "panoptic" / "b.png"
        writer.add("sub/c.jpg", random_map(1), image_id=70)
    folder = tmp_path / "out" / "deep"
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert found == ["panoptic.json", "panoptic/b.png", "panoptic/sub/c.png"]
    content = json.loads((folder / "panoptic.json").read_text())
    assert content["images"] == [
        {"id": 1, "file_name": "b.tif", "width": 30, "height": 24},
        {"id": 70, "file_name": "sub/c.jpg", "width": 30, "height": 24},
    ]
    assert [(a["image_id"], a["file_name"]) for a in content["annotations"]] == [(1, "b.png"), (70, "sub/c.png")]
    assert content["categories"] == categories(LABEL_SET)
    assert LabelSet.from_list(content["categories"]) == LABEL_SET
    rgb = np.asarray(Image.open(folder / "panoptic" / "b.png"))
    again = panoptic_map(rgb, content["annotations"][0]["segments_info"], LABEL_SET)
    np.testing.assert_array_equal(again.segments(LABEL_SET)[0], random_map(0).segments(LABEL_SET)[0])


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000000142238.jpg", "5.png"], [142238, 5]),
        (["000000142238.jpg", "a.png"], [1, 2]),
        (["7.jpg", "007.png"], [1, 2]),
        (["2.jpg", "1.jpg"], [2, 1]),
    ],
)
def test_ids_from_names_that_are_numbers(tmp_path: Path, names: list[str], ids: list[int]) -> None:
    with CocoPanopticWriter(tmp_path, LABEL_SET, ids_from_names=True) as writer:
        for number, name in enumerate(names):
            writer.add(f"{number}/{name}", random_map(number))
    content = json.loads((tmp_path / "panoptic.json").read_text())
    assert [(image["id"], image["file_name"]) for image in content["images"]] == [
        (id, f"{number}/{name}") for number, (id, name) in enumerate(zip(ids, names))
    ]
    assert [entry["image_id"] for entry in content["annotations"]] == ids


def test_an_error_inside_the_block_leaves_no_json(tmp_path: Path) -> None:
    def stop_half_way() -> None:
        with CocoPanopticWriter(tmp_path, LABEL_SET) as writer:
            writer.add("a.png", random_map(0))
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop_half_way()
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.png"]


def test_writer_refuses_clashes(tmp_path: Path) -> None:
    writer = CocoPanopticWriter(tmp_path, LABEL_SET)
    writer.add("a.jpg", random_map(0))
    with pytest.raises(OutputError, match=r"a.tif: two images would be written to panoptic/a.png"):
        writer.add("a.tif", random_map(1))
    with pytest.raises(OutputError, match=r"b.jpg: image id 1 is taken by a.jpg"):
        writer.add("b.jpg", random_map(1), image_id=1)
    for name in ("../a.jpg", "/a.jpg"):
        with pytest.raises(OutputError, match="expected a name inside the image folder"):
            writer.add(name, random_map(1))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't make this folder"):
        CocoPanopticWriter(tmp_path / "file", LABEL_SET).close()
    assert len(list(tmp_path.rglob("*.png"))) == 1


@pytest.mark.data
def test_real_coco_files_read_and_score_like_hotcoco(tmp_path: Path) -> None:
    data = os.environ.get("PANEMBED_DATA")
    if not data:
        pytest.skip("PANEMBED_DATA is not set")
    folder = Path(data) / "coco_panoptic_sample"
    if not (folder / "panoptic_examples.json").is_file():
        pytest.skip("PANEMBED_DATA has no coco_panoptic_sample")
    content = json.loads((folder / "panoptic_examples.json").read_text())
    label_set = LabelSet.from_list(content["categories"])
    quality = PanopticQuality(label_set)
    with CocoPanopticWriter(tmp_path, label_set) as writer:
        for entry in content["annotations"]:
            rgb = np.asarray(Image.open(folder / "panoptic_examples" / entry["file_name"]))
            truth = panoptic_map(rgb, entry["segments_info"], label_set, source=entry["file_name"])
            _, table = truth.segments(label_set)
            assert sorted(s.area for s in table) == sorted(s["area"] for s in entry["segments_info"])
            assert len(truth.crowd) == sum(s["iscrowd"] for s in entry["segments_info"]) > 0
            prediction = PanopticMap(
                np.roll(truth.semantic, (3, 5), (0, 1)), np.roll(truth.instance, (3, 5), (0, 1)), truth.crowd
            )
            writer.add(entry["file_name"], prediction, image_id=entry["image_id"])
            quality.update(prediction, truth)
    evaluation = PanopticEval(
        str(folder / "panoptic_examples.json"),
        str(tmp_path / "panoptic.json"),
        gt_folder=str(folder / "panoptic_examples"),
    )
    evaluation.evaluate()
    theirs, ours = evaluation.results(), quality.compute()
    assert ours.things.tp > 10
    for name, score in (("All", ours.all), ("Things", ours.things), ("Stuff", ours.stuff)):
        for figure in ("pq", "sq", "rq"):
            assert getattr(score, figure) == pytest.approx(theirs[name][figure], abs=1e-9)
        assert score.num_classes == theirs[name]["n"]
