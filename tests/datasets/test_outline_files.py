"""Outlines beside images: YOLO, ImageJ's regions, QuPath's GeoJSON; against shapely, roifile and scikit-image."""

import io
import json
import zipfile

import numpy as np
import pytest
import shapely
import yaml
from layout_contract import OBJECTS, LayoutContract, picture
from PIL import Image
from roifile import ROI_TYPE, ImagejRoi, roiwrite
from skimage.draw import polygon2mask
from test_labelme import FIELD, box

from panembed.datasets.convert import convert
from panembed.datasets.folder import LabelCoding
from panembed.datasets.layout import open_dataset
from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import InputError
from panembed.labels.categories import IGNORE, Category, LabelSet

SHAPE = (40, 50)
CORNERS = [[2, 2], [12, 2], [12, 9], [2, 9]]


def rectangles(truth):
    """Class and corners of every object of a contract's map."""
    for number in np.unique(truth.instance[truth.instance > 0]).tolist():
        mask = truth.instance == number
        left, top, right, bottom = box(mask)
        yield int(truth.semantic[mask][0]), np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


class TestYolo(LayoutContract):
    format = "yolo-seg"
    label_set = FIELD
    ids = ("a", "train/b.x", "val/c d")

    def write(self, root, images):
        (root / "data.yaml").write_text(yaml.safe_dump({"path": ".", "names": {0: "crop", 1: "weed"}}))
        for id, (image, truth) in images.items():
            save(root / f"images/{id}.png", image)
            size = np.array(image.shape[1::-1])
            lines = [
                f"{index - 1} " + " ".join(f"{v:.8g}" for v in (c / size).ravel()) for index, c in rectangles(truth)
            ]
            (root / f"labels/{id}.txt").parent.mkdir(parents=True, exist_ok=True)
            (root / f"labels/{id}.txt").write_text("\n".join(lines))


class TestRois(LayoutContract):
    format = "rois"
    label_set = OBJECTS
    ending = "_rois.zip"

    def write(self, root, images):
        for id, (image, truth) in images.items():
            save(root / f"{id}.png", image)
            regions = [ImagejRoi.frompoints(c, name=str(n)) for n, (_, c) in enumerate(rectangles(truth))]
            if regions:
                roiwrite(root / f"{id}{self.ending}", regions, mode="w")
            else:
                zipfile.ZipFile(root / f"{id}{self.ending}", "w").close()


class TestRoisInAFolder(TestRois):
    ending = ".zip"

    def write(self, root, images):
        super().write(root, images)
        for folder, suffix in (("images", ".png"), ("rois", ".zip")):
            (root / folder).mkdir()
            for path in root.glob(f"*{suffix}"):
                path.rename(root / folder / path.name)


class TestGeoJson(LayoutContract):
    format = "geojson"
    label_set = FIELD

    def write(self, root, images):
        for id, (image, truth) in images.items():
            save(root / f"{id}.png", image)
            rows = [feature(shapely.Polygon(c), FIELD[index].name) for index, c in rectangles(truth)]
            (root / f"{id}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": rows}))


def feature(geometry, name=None, **more):
    properties = {"objectType": "annotation"} | ({} if name is None else {"classification": {"name": name}}) | more
    return {"type": "Feature", "geometry": shapely.geometry.mapping(geometry), "properties": properties}


def blob(rng):
    """A shape with slanted edges, holes and pieces, that may reach out of the image."""
    made = shapely.unary_union([shapely.Point(*rng.uniform(0, 50, 2)).buffer(rng.uniform(2, 9), 3) for _ in range(3)])
    for _ in range(2):
        made = made.difference(shapely.Point(*rng.uniform(0, 50, 2)).buffer(rng.uniform(1, 4), 4))
    return made


def inside(geometry, shape=SHAPE):
    """Pixels whose middle shapely finds inside."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return shapely.contains_xy(geometry, x, y)


def painted(masks, classes):
    """The smaller on top."""
    semantic, instance = np.zeros(SHAPE, int), np.zeros(SHAPE, int)
    for place in sorted(range(len(masks)), key=lambda n: (-masks[n].sum(), n)):
        semantic[masks[place]], instance[masks[place]] = classes[place], place + 1
    return semantic, instance


def assert_is(truth, semantic, instance):
    assert np.array_equal(truth.semantic, semantic)
    pairs = np.unique(np.stack([truth.instance, instance]).reshape(2, -1), axis=1)
    assert pairs.shape[1] == len(np.unique(instance)) == len(np.unique(truth.instance))


@pytest.mark.parametrize("seed", range(10))
def test_geojson_is_what_shapely_says(tmp_path, seed):
    rng = np.random.default_rng(seed)
    shapes, names = [blob(rng) for _ in range(6)], rng.choice(["crop", "weed"], 6).tolist()
    names[:2] = ["crop", "weed"]
    save(tmp_path / "a.png", picture(0, SHAPE))
    (tmp_path / "a.geojson").write_text(json.dumps([feature(s, n) for s, n in zip(shapes, names)]))
    masks = [inside(shape) for shape in shapes]
    assert_is(open_dataset(tmp_path).read_truth("a"), *painted(masks, [{"crop": 1, "weed": 2}[n] for n in names]))


@pytest.mark.parametrize("seed", range(10))
def test_yolo_is_what_shapely_says(tmp_path, seed):
    rng = np.random.default_rng(seed)
    shapes = [max(getattr(s, "geoms", [s]), key=lambda g: g.area).exterior for s in (blob(rng) for _ in range(6))]
    (tmp_path / "labels").mkdir()
    save(tmp_path / "images/a.png", picture(0, SHAPE))
    scale = np.array(SHAPE[::-1])
    lines = ["0 " + " ".join(map(repr, (np.array(s.coords) / scale).ravel().tolist())) for s in shapes]
    (tmp_path / "labels/a.txt").write_text("\n".join(lines))
    masks = [inside(shapely.Polygon(shape)) for shape in shapes]
    assert_is(open_dataset(tmp_path).read_truth("a"), *painted(masks, [1] * 6))


@pytest.mark.parametrize("seed", range(10))
def test_rois_are_what_scikit_image_fills(tmp_path, seed):
    """Its pixels are points at whole numbers, ImageJ's are squares: half a pixel between them."""
    rng = np.random.default_rng(seed)
    corners = [rng.uniform(-4, 50, (7, 2)).astype(np.float32) for _ in range(6)]
    save(tmp_path / "a.png", picture(0, SHAPE))
    roiwrite(tmp_path / "a.zip", [ImagejRoi.frompoints(c, name=str(n)) for n, c in enumerate(corners)], mode="w")
    masks = [polygon2mask(SHAPE, c[:, ::-1].astype(float) - 0.5) for c in corners]
    assert_is(open_dataset(tmp_path).read_truth("a"), *painted(masks, [1] * 6))


def region(kind, **more):
    return ImagejRoi(roitype=kind, name=f"{kind.name}{len(more)}", **more)


def test_kinds_of_regions(tmp_path):
    ring = [0, 30, 20, 1, 45, 20, 1, 45, 35, 1, 30, 35, 4, 0, 35, 24, 1, 35, 30, 1, 40, 30, 1, 40, 24, 4]
    regions = [
        region(ROI_TYPE.RECT, left=1, top=2, right=6, bottom=9),
        region(ROI_TYPE.OVAL, left=10, top=2, right=30, bottom=16),
        region(
            ROI_TYPE.RECT,
            left=30, top=20, right=45, bottom=35,
            multi_coordinates=np.array(ring, np.float32), shape_roi_size=len(ring),
        ),
        region(ROI_TYPE.LINE, x1=1.0, y1=1.0, x2=5.0, y2=5.0),
    ]  # fmt: skip
    save(tmp_path / "a.png", picture(0, SHAPE))
    roiwrite(tmp_path / "a.zip", regions, mode="w")
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    rectangle = (x > 1) & (x < 6) & (y > 2) & (y < 9)
    oval = ((x - 20) / 10) ** 2 + ((y - 9) / 7) ** 2 <= 1
    composite = (x > 30) & (x < 45) & (y > 20) & (y < 35) & ~((x > 35) & (x < 40) & (y > 24) & (y < 30))
    dataset = open_dataset(tmp_path)
    assert_is(dataset.read_truth("a"), *painted([rectangle, oval, composite], [1, 1, 1]))
    assert dataset.losses("a") == {"lines, points and texts": 1}


def test_a_single_roi(tmp_path):
    save(tmp_path / "a.png", picture(0, SHAPE))
    ImagejRoi.frompoints(np.array(CORNERS)).tofile(tmp_path / "a.roi")
    assert open_dataset(tmp_path).read_truth("a").num_instances == 1


def zipped(name="1.roi", content=b"Iout", **more):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **more) as archive:
        archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK nonsense", "no whole zip of regions"),
        (zipped("photo.png"), "holds photo.png and no .roi"),
        (zipped(content=b"Iout" + bytes(20)), "region 1.roi can't be read"),
        (zipped(content=b"Iout\0\xe3\x63" + bytes(90)), "a kind that ImageJ doesn't have"),
        (zipped(content=bytes(2**28 + 1), compression=zipfile.ZIP_DEFLATED), "unpacks to more than"),
    ],
)
def test_damaged_regions(tmp_path, content, said):
    save(tmp_path / "a.png", picture(0, SHAPE))
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        open_dataset(tmp_path).read_truth("a")
    assert "a.zip" in str(caught.value)


def test_classes_of_qupath(tmp_path):
    square = shapely.box(2, 2, 12, 9)
    rows = [
        feature(square, "Tumor", measurements={"Area": 3}),
        feature(shapely.box(20, 20, 30, 30)),
        feature(shapely.box(40, 0, 50, 10), "Ignore*"),
        feature(shapely.Point(1, 1), "Tumor"),
        feature(shapely.LineString([[1, 1], [5, 5]])),
        feature(shapely.box(45, 35, 60, 60), "Tumor"),
    ]
    rows[0]["properties"]["classification"]["color"] = [200, 0, 0]
    save(tmp_path / "a.png", picture(0, SHAPE))
    (tmp_path / "a_objects.geojson").write_text(json.dumps(rows))
    dataset = open_dataset(tmp_path)
    assert [c.name for c in dataset.label_set] == ["background", "Tumor", "object"]
    assert dataset.label_set[1].color == (200, 0, 0)
    truth = dataset.read_truth("a")
    assert np.array_equal(truth.semantic == IGNORE, inside(shapely.box(40, 0, 50, 10)))
    assert truth.num_instances == 3
    assert dataset.losses("a") == {
        "lines and points": 2,
        "objects with measurements": 1,
        "objects that reach out of the image, and are cut at its edge": 1,
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"type": "FeatureCollection"}', "holds no features"),
        ("[1, 2]", "holds no features"),
        ('[{"geometry": {"type": "Polygon", "coordinates": [[[1, 2], ["x", 3], [4, 5]]]}}]', r"features\[0\].*points"),
        ('[{"geometry": {"type": "Polygon", "coordinates": [[[1, 2], [1e300, 3], [4, 5]]]}}]', r"features\[0\].*1e"),
        ('[{"geometry": {"type": "MultiPolygon", "coordinates": 7}}]', r"features\[0\].*none"),
    ],
)
def test_malformed_geojson(tmp_path, content, said):
    save(tmp_path / "a.png", picture(0, SHAPE))
    (tmp_path / "a.geojson").write_text(content)
    with pytest.raises(InputError, match=said) as caught:
        open_dataset(tmp_path).read_truth("a")
    assert "a.geojson" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.1 0.1", "is a box of detection"),
        ("0 0.5 0.5 0.1 0.1 0.9", "is a box of detection"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "has 7 numbers"),
        ("0 0.1 0.1", "has 2 numbers"),
        ("5 0.1 0.1 0.2 0.2 0.3 0.3", r"has class 5; expected 0\.\.0"),
        ("-1 0.1 0.1 0.2 0.2 0.3 0.3", "has class -1"),
        ("0 10 10 200 20 30 300", "has the corner 300; expected fractions"),
        ("0 nan 0.1 0.2 0.2 0.3 0.3", "has the corner nan"),
        ("leaf 0.1 0.1 0.2 0.2 0.3 0.3", "expected a class and corners, all numbers"),
    ],
)
def test_malformed_yolo(tmp_path, line, said):
    save(tmp_path / "images/a.png", picture(0, SHAPE))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(f"0 0.1 0.1 0.2 0.1 0.2 0.2\n\n{line}\n")
    (tmp_path / "data.yaml").write_text("names: [leaf]\n")
    with pytest.raises(InputError, match=said) as caught:
        open_dataset(tmp_path).read_truth("a")
    assert "a.txt: line 3" in str(caught.value)


def test_folders_of_parts(tmp_path):
    """As Roboflow writes them."""
    for part in ("train", "valid"):
        save(tmp_path / f"{part}/images/a.jpg", picture(0, SHAPE))
        (tmp_path / f"{part}/labels").mkdir()
        (tmp_path / f"{part}/labels/a.txt").write_text("0 0.1 0.1 0.2 0.1 0.2 0.2")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnames: ['leaf']\n")
    dataset = open_dataset(tmp_path)
    assert dataset.ids == ["train/a", "valid/a"]
    assert dataset.read_truth("valid/a").num_instances == 1


@pytest.mark.parametrize("names", ["{1: a, 2: b}", "7", "[]", "{0: [1]}"])
def test_wrong_names(tmp_path, names):
    save(tmp_path / "images/a.png", picture(0, SHAPE))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("")
    (tmp_path / "data.yaml").write_text(f"names: {names}\n")
    with pytest.raises(InputError, match=r"data\.yaml: names"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("format", ["yolo-seg", "geojson", "rois", "masks", "stacks"])
def test_objects_without_a_name_are_called_as_the_preset_says(tmp_path, format):
    """Else a model of nuclei could not be scored on them."""
    nuclei = LabelSet([Category(0, "background", False), Category(1, "nucleus", True)])
    plants = SyntheticDataset(2, size=32)
    convert(plants, format, tmp_path)
    if format == "yolo-seg":
        (tmp_path / "data.yaml").unlink()
    for path in tmp_path.rglob("*.geojson"):
        data = json.loads(path.read_text())
        for row in data["features"]:
            del row["properties"]["classification"]
        path.write_text(json.dumps(data))
    assert open_dataset(tmp_path, otherwise=LabelCoding(nuclei)).label_set == nuclei
    assert [c.name for c in open_dataset(tmp_path).label_set] == ["background", "object"]
    field = LabelCoding(FIELD, "class-instance")  # says nothing of objects of one kind
    assert [c.name for c in open_dataset(tmp_path, otherwise=field).label_set] == ["background", "object"]
