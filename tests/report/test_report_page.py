"""The report's page in a real browser: views, keys, order, zoom, both schemes, and that nothing goes over a network."""

import shutil
from pathlib import Path

import pytest
from report_folders import NASTY, write_data, write_predictions

pytestmark = pytest.mark.slow

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_PLACES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'panembed[dev]'")
    program = next((found for name in _PLACES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        except sync_api.Error as error:
            pytest.skip(f"{program} does not start: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The report of five images, one of which lacks its photograph."""
    from panembed.cli.evaluate import evaluate
    from panembed.report.evaluation_report import report_of_scores
    from panembed.report.html import write_report

    root = tmp_path_factory.mktemp("page")
    data = write_data(root / "data", 5)
    evaluate(data, root / "scores", predictions=write_predictions(root / "predicted", data), pictures=0)
    max((data / "images").iterdir()).write_bytes(b"broken")
    write_report(report_of_scores(root / "scores"), root / "report.html")
    return root / "report.html"


@pytest.fixture
def open_page(browser, path):
    """Open the page, and fail at the end where it complained or asked for anything."""
    opened = []

    def run(page_path: Path = path, **options):
        context = browser.new_context(**options)
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request", lambda request: None if request.url.startswith(("data:", "file:")) else said.append(request.url)
        )
        page.on("dialog", lambda dialog: said.append(f"a dialog: {dialog.message}"))
        page.goto(page_path.as_uri())
        opened.append((context, said))
        return page

    yield run
    for context, said in opened:
        context.close()
        assert said == []


def _is_outside(url):
    return not url.startswith(("data:", "file:"))


def shown(page, card=0):
    """The views of a card that are to be seen, and whether their pictures were decoded."""
    return page.evaluate(
        """(card) => [...document.querySelectorAll(".card")][card].querySelectorAll("img").values()
           .filter((image) => image.checkVisibility()).map((image) => image.className).toArray()""",
        card,
    )


def test_views_switch_by_click_and_by_key(open_page):
    page = open_page()
    assert shown(page) == ["input", "errors"]
    page.get_by_label("Truth", exact=True).check()
    assert shown(page) == ["input", "truth"]
    page.locator("h1").click()
    page.keyboard.press("1")
    assert shown(page) == ["input"]
    page.keyboard.press("5")
    assert shown(page) == ["input", "truth", "prediction", "errors"]
    tops = page.locator(".card").first.locator("img").evaluate_all("all => all.map((i) => i.getBoundingClientRect())")
    assert len({round(box["top"]) for box in tops}) == 1  # side by side
    assert len({round(box["left"]) for box in tops}) == 4


def test_every_picture_decodes(open_page):
    page = open_page()
    sizes = page.evaluate(
        """async () => { const all = [...document.images];
           for (const image of all) { await image.decode(); }
           return all.map((image) => image.naturalWidth); }"""
    )
    assert sizes == [64] * (4 * 4 + 3)


def test_an_image_is_seen_large_and_walked_through_by_keys(open_page):
    page = open_page()
    names = page.locator(".card").evaluate_all("all => all.map((card) => card.dataset.name)")
    assert NASTY in names
    page.locator(".card button.stage").first.focus()
    page.keyboard.press("Enter")
    large = page.locator("#large")
    assert large.is_visible()
    for name in [*names[1:], names[0]]:
        page.keyboard.press("ArrowRight")
        assert page.locator("#large-name").text_content() == name
    page.keyboard.press("ArrowLeft")
    assert page.locator("#large-name").text_content() == names[-1]
    assert page.locator("#large-place").text_content() == "5 of 5"
    page.keyboard.press("3")
    assert large.get_attribute("data-view") == "prediction"
    width = "document.querySelector('#large-stage > div').getBoundingClientRect().width"
    before = page.evaluate(width)
    page.keyboard.press("+")
    assert page.evaluate(width) == pytest.approx(1.5 * before, rel=0.01)
    page.keyboard.press("0")
    assert page.evaluate(width) == pytest.approx(before, rel=0.01)
    page.keyboard.press("Escape")
    assert not large.is_visible()
    focused = page.evaluate("document.activeElement.closest('.card').dataset.name")
    assert focused == names[-1]


def test_a_large_image_fills_the_window_and_zooms_about_the_pointer(open_page):
    page = open_page(viewport={"width": 900, "height": 700})
    page.locator(".card button.stage").first.click()
    box = page.locator("#large-stage").bounding_box()
    inner = page.locator("#large-stage > div").bounding_box()
    assert inner["width"] <= box["width"] + 1
    assert inner["height"] == pytest.approx(box["height"], abs=2)
    assert inner["x"] + inner["width"] / 2 == pytest.approx(box["x"] + box["width"] / 2, abs=2)
    at_x, at_y = inner["x"] + inner["width"] / 4, inner["y"] + inner["height"] / 4
    page.mouse.move(at_x, at_y)
    page.mouse.wheel(0, -100)
    page.wait_for_timeout(100)
    now = page.locator("#large-stage > div").bounding_box()
    assert now["width"] > inner["width"]
    assert (at_x - now["x"]) / now["width"] == pytest.approx(0.25, abs=0.01)
    assert (at_y - now["y"]) / now["height"] == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("width", [1000, 390])
def test_side_by_side_is_seen_whole_when_large(open_page, width):
    page = open_page(viewport={"width": width, "height": 700})
    page.locator(".card button.stage").first.click()
    page.keyboard.press("5")
    box = page.locator("#large-stage").bounding_box()
    for picture in page.locator("#large-stage img").all():
        own = picture.bounding_box()
        assert own["x"] >= box["x"] - 1
        assert own["x"] + own["width"] <= box["x"] + box["width"] + 1
        assert own["width"] > box["width"] / 5


def test_order_and_search(open_page):
    page = open_page()
    page.locator("#order").select_option("name")
    names = page.locator(".card").evaluate_all("all => all.map((card) => card.dataset.name)")
    assert names == sorted(names)
    page.locator("#find").fill("ONERROR")
    assert page.locator(".card:visible").count() == 1
    assert page.locator("#found").text_content() == "1 of 5 images"
    page.locator("#find").fill("1")  # a digit in a field is no key of a view
    assert page.locator("body").get_attribute("data-view") == "errors"


_CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c[3] === 255) return c; } return [255, 255, 255]; };
  const poor = [];
  const text = "h1,h2,h3,p,dt,dd,th,td,li,label,button,summary,svg text,footer,figcaption";
  for (const e of document.querySelectorAll(text)) {
    if (!e.checkVisibility() || !e.textContent.trim()) continue;
    const style = getComputedStyle(e), ink = rgb(e.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(`${e.tagName} ${e.textContent.trim().slice(0, 30)}`);
  }
  return poor; }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes_and_the_switch_changes_them(open_page, scheme):
    page = open_page(color_scheme=scheme)
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(_CONTRAST) == []
    before = page.evaluate(ground)
    page.locator("#scheme").click()
    assert page.evaluate(ground) != before
    assert page.evaluate(_CONTRAST) == []


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_is_cut_off_sideways(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    for key in "45":
        page.keyboard.press(key)
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_words_in_tables_stay_whole_in_a_narrow_window(open_page):
    page = open_page(viewport={"width": 420, "height": 800})
    headings = page.locator("tbody th[scope=row]")
    boxes = headings.evaluate_all(
        "(all) => all.map((one) => {"
        "const range = document.createRange(); range.selectNodeContents(one);"
        "return range.getClientRects().length; })"
    )
    assert len(boxes) > 3
    assert max(boxes) <= 2


def test_it_prints_all_images_in_light(open_page, tmp_path):
    page = open_page(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#bar").is_visible()
    assert page.locator(".card:visible").count() == 5
    page.pdf(path=tmp_path / "page.pdf")
    # The photograph and the errors of each; pictures that are loaded late would be missing.
    assert (tmp_path / "page.pdf").read_bytes().count(b"/Subtype /Image") >= 4 + 5


def test_pictures_are_seen_without_scripts(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator(".card img.errors").first.is_visible()
