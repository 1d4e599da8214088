"""`panembed report` of predictions and of scores: what is in the page, whatever the files are called."""

import csv
import html.parser
import json
import re
import shutil

import numpy as np
import pytest
from report_folders import NASTY, write_data, write_predictions

from panembed.report.html import MAX_BYTES, PictureBudget, Report, ReportImage, ranked, render


class Page(html.parser.HTMLParser):
    """The elements of a page, as a browser reads them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._in = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in.append(tag)

    def handle_endtag(self, tag):
        if tag in self._in:
            while self._in.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._in):
            self.text.append(data)

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in wanted.items())]

    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("report") / "data")


@pytest.fixture(scope="module")
def predictions(tmp_path_factory, data):
    return write_predictions(tmp_path_factory.mktemp("report") / "predicted", data)


@pytest.fixture
def scores(tmp_path, cli, data, predictions):
    outcome = cli("evaluate", "--predictions", predictions, "--data", data, "--output", tmp_path / "s", "--pictures", 0)
    assert outcome.code == 0, outcome.err
    return tmp_path / "s"


def page_of(cli, folder, *options):
    outcome = cli("report", folder, *options)
    assert outcome.code == 0, outcome.err
    return Page((folder / "report.html").read_text(encoding="utf-8")), outcome


def test_predictions_are_shown_with_their_images(cli, tmp_path, predictions):
    folder = shutil.copytree(predictions, tmp_path / "p")
    page, _ = page_of(cli, folder)
    cards = page.all("article", **{"class": "card"})
    assert {card["data-name"] for card in cards} == {f"{NASTY}.png", "plant0001.png", "plant0002.png", "plant0003.png"}
    for view in ("input", "prediction"):
        assert len(page.all("img", **{"class": view})) == 4
    assert not page.all("img", **{"class": "truth"})
    with (folder / "objects.csv").open(newline="") as file:
        objects = len(list(csv.DictReader(file)))
    assert f"objects {objects} " in page.words()
    assert "side of a pixel 0.25um" in page.words()


def test_scores_are_shown_worst_first_with_truth_and_errors(cli, scores):
    page, _ = page_of(cli, scores)
    with (scores / "per_image.csv").open(newline="") as file:
        quality = {row["id"]: float(row["pq_things"]) for row in csv.DictReader(file)}
    shown = [quality[card["data-name"]] for card in page.all("article", **{"class": "card"})]
    assert len(shown) == 4
    assert shown == sorted(shown)
    for view in ("input", "truth", "prediction", "errors"):
        assert len(page.all("img", **{"class": view})) == 4
    metrics = json.loads((scores / "metrics.json").read_text())
    assert f"things PQ {100 * metrics['things']['pq']:.1f}" in page.words()
    assert page.words().count("1 lost") == 4  # `predicted` loses one object of each image


def test_a_file_name_that_is_markup_stays_a_name(cli, scores):
    page, _ = page_of(cli, scores)
    assert not [attrs for tag, attrs in page.elements if "onerror" in attrs]
    assert all(attrs["src"].startswith("data:image/") for attrs in page.all("img"))
    assert NASTY in page.words()


def test_nothing_is_asked_of_a_network(cli, scores):
    page, _ = page_of(cli, scores)
    assert not page.all("link", rel="stylesheet")
    assert not [a for a in page.all("script") if "src" in a]
    sources = [attrs[key] for _, attrs in page.elements for key in ("src", "href", "srcset") if key in attrs]
    assert [s for s in sources if not s.startswith(("data:", "#"))] == []
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in policy["content"]
    assert re.search(r"url\(|@import", (scores / "report.html").read_text()) is None


def test_every_picture_has_words(cli, scores):
    page, _ = page_of(cli, scores)
    assert all(attrs.get("alt") for attrs in page.all("img"))
    assert all(attrs.get("aria-label") for attrs in page.all("svg"))


def test_photographs_that_are_gone_are_told_of(cli, tmp_path, data, predictions):
    photos = shutil.copytree(data, tmp_path / "data")
    folder = write_predictions(tmp_path / "p", photos)
    (photos / "images" / "plant0001.png").rename(tmp_path / "plant0001.png")
    page, outcome = page_of(cli, folder)
    assert "1 photograph of 4 can't be read" in outcome.err
    assert len(page.all("img", **{"class": "input"})) == 3
    assert len(page.all("img", **{"class": "prediction"})) == 4
    page, outcome = page_of(cli, folder, "--images", tmp_path, "--overwrite")
    assert len(page.all("img", **{"class": "input"})) == 4
    assert "can't be read" not in outcome.err


def test_data_that_are_gone_leave_the_figures(cli, tmp_path, data, predictions):
    moved = shutil.copytree(data, tmp_path / "data")
    assert cli("evaluate", "--predictions", predictions, "--data", moved, "-o", tmp_path / "s").code == 0
    moved.rename(tmp_path / "elsewhere")
    page, outcome = page_of(cli, tmp_path / "s")
    assert "--data says where" in outcome.err
    assert "things PQ" in page.words()
    assert not page.all("img")
    page, _ = page_of(cli, tmp_path / "s", "--data", tmp_path / "elsewhere", "--overwrite")
    assert len(page.all("img", **{"class": "errors"})) == 4


def test_evaluate_keeps_predictions_that_score_the_same(cli, tmp_path, data, scores):
    assert cli("evaluate", "--predictions", scores, "--data", data, "--output", tmp_path / "again").code == 0
    first, again = (json.loads((folder / "metrics.json").read_text()) for folder in (scores, tmp_path / "again"))
    assert first == again


def test_a_report_is_not_replaced_unasked(cli, tmp_path, predictions):
    folder = shutil.copytree(predictions, tmp_path / "p")
    (folder / "report.html").write_text("mine")
    assert "is there already" in cli("report", folder).sentence()
    assert (folder / "report.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "folder"), "--format has no effect without --data"),
        (("--data", "x"), "--data has no effect on the predictions"),
        (("--seconds", "5"), "--seconds has no effect on the predictions"),
        (("--output", "x.pdf"), "expected a name that ends in .html"),
    ],
)
def test_options_without_effect_are_refused(cli, predictions, options, said):
    assert said in cli("report", predictions, *options).sentence()
    assert not (predictions / "report.html").exists()


def test_other_folders_are_refused(cli, tmp_path):
    assert "no such folder" in cli("report", tmp_path / "none").sentence()
    assert "holds neither a run" in cli("report", tmp_path).sentence()


def test_scores_of_an_older_version_have_figures_but_no_pictures(cli, scores):
    (scores / "data.json").unlink()
    page, outcome = page_of(cli, scores)
    assert "older panembed" in outcome.err
    assert len(page.all("article", **{"class": "card"})) == 4


def test_scores_of_objects_give_a_reliability_plot(cli, scores):
    metrics = json.loads((scores / "metrics.json").read_text())
    metrics["score_reliability"] = {
        "auc": 0.9,
        "expected_calibration_error": 0.02,
        "bins": [
            {"from": 0.0, "to": 0.5, "objects": 10, "mean_score": 0.3, "matched": 0.2},
            {"from": 0.5, "to": 1.0, "objects": 0, "mean_score": None, "matched": None},
        ],
    }
    (scores / "metrics.json").write_text(json.dumps(metrics))
    page, _ = page_of(cli, scores)
    assert any("0.30: 0.20 of 10" in svg["aria-label"] for svg in page.all("svg"))
    assert "match none: 8" in page.words()


@pytest.mark.parametrize("count", [1, 10, 300, 3000])
def test_pictures_never_outgrow_the_page(count):
    budget, sent = PictureBudget(count), 0
    for _ in range(count):
        _, pictures = budget.fit((4000, 3000), lambda shape: {"input": "x" * (shape[0] * shape[1])})
        sent += sum(map(len, pictures.values()))
    assert sent + 1500 * count < MAX_BYTES


def test_orders():
    values = [0.5, None, 0.1, 0.9]
    assert [values[i] for i in ranked(values, 1)] == [0.1, 0.5, 0.9, None]
    assert [values[i] for i in ranked(values, -1)] == [0.9, 0.5, 0.1, None]
    images = [ReportImage(name, (1, 1), values={"size": value}) for name, value in zip("dbca", values)]
    page = Page(render(Report("t", "k", images=images, orders={"size": -1})))
    placed = {a["data-name"]: json.loads(a["data-order"]) for a in page.all("article", **{"class": "card"})}
    assert sorted(placed, key=lambda name: placed[name]["size"]) == ["a", "d", "c", "b"]
    assert sorted(placed, key=lambda name: placed[name]["name"]) == ["a", "b", "c", "d"]


def test_pictures_hold_the_objects_that_they_show(cli, scores):
    import base64
    import io

    from PIL import Image

    page, _ = page_of(cli, scores)
    for attrs in page.all("img", **{"class": "prediction"}):
        picture = Image.open(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2]))).convert("RGBA")
        name = attrs["alt"].removeprefix("Prediction of ")
        with Image.open(scores / "panoptic" / f"{name}.png") as stored:
            ids = np.asarray(stored)[..., 0]  # 1 is the background
        assert ((np.asarray(picture)[..., 3] > 0) >= (ids > 1)).all()
