"""The web site: what its pages say, that their links hold, and how it behaves in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from axe_core_python.selenium import Axe
from justhtml import JustHTML
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import csbp_core
from csbp_notebooks.files import NOTEBOOKS, ROOT
from csbp_notebooks.signs import typeset
from csbp_notebooks.verdicts import verdicts
from docs.build import build
from docs.explorer import explorer_fragment
from docs.facts import address
from docs.gallery import claim_in, gallery_page, read_figures, title_in
from docs.long_description import with_absolute_links
from docs.mathml import mathml
from study.findings.answers import answers
from study.findings.contrasts_json import read_findings

IMAGES = ROOT / "images"
PHONE = 390  # CSS pixels, the width of a phone
HERE = ("file:", "data:", "blob:")  # where a page may load from
SOME_SECONDS = 20
A_MINUTE = 60

# Sphinx and its extensions, of what they will have to change in one another.
pytestmark = pytest.mark.filterwarnings("ignore:.*Sphinx")


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder with the pages: it is there only if Sphinx has warned of nothing."""
    return build(tmp_path_factory.mktemp("site"))


class Page(NamedTuple):
    """A page, parsed."""

    path: Path
    html: JustHTML
    names: list[str]  # of the places that a link may lead to

    def values(self, attribute):
        """The values of an attribute of all elements that have it."""
        return [element.attrs[attribute] for element in self.html.query(f"[{attribute}]")]


def parsed(path):
    text = path.read_text(encoding="utf-8")
    html = JustHTML(text, sanitize=False, collect_errors=True)
    return Page(path, html, [element.attrs["id"] for element in html.query("[id]")])


@pytest.fixture(scope="session")
def pages(site):
    return {path: parsed(path) for path in sorted(site.rglob("*.html"))}


# Numbers


def test_the_gallery_says_what_the_notebooks_print():
    """It is made of the files beside the figures; what the notebooks have printed is stored."""
    for figure in read_figures(IMAGES, NOTEBOOKS):
        notebook = nbformat.read(NOTEBOOKS / f"{figure.notebook}.ipynb", as_version=4)
        printed = json.dumps(notebook, ensure_ascii=False)
        assert typeset(figure.measured) in printed, figure.name


def test_the_gallery_has_every_figure_with_its_files(site, pages):
    gallery = pages[site / "gallery.html"]
    links = gallery.values("href")
    for path in IMAGES.glob("*.json"):
        assert f"images/{path.name}" in links
        assert f"images/{path.stem}.svg" in links
        assert f"_images/{path.stem}.png" in gallery.values("src")


def test_the_gallery_begins_with_every_figure_as_a_link_to_its_entry(site, pages):
    gallery = pages[site / "gallery.html"]
    cards = gallery.html.query(".overview .sd-card")
    titles = [card.query(".sd-card-text")[0].to_text() for card in cards]
    figures = read_figures(IMAGES, NOTEBOOKS)
    assert titles == [
        figure.title.replace("'", "\u2019") for figure in figures
    ]  # as Sphinx sets it
    for card, title in zip(cards, titles, strict=True):
        (entry,) = gallery.html.query(card.query("a")[0].attrs["href"])
        (shown,) = card.query("img")
        (head, *_) = entry.query("h2")
        (first, *_) = entry.query("img")
        assert head.to_text().startswith(title)
        assert first.attrs["src"] == shown.attrs["src"]


def test_another_number_in_a_file_is_another_number_in_the_gallery(tmp_path):
    recorded = json.loads((IMAGES / "example1.json").read_text())
    recorded["results"]["summary"] = "w slides to 0.123"
    (tmp_path / "example1.json").write_text(json.dumps(recorded))
    assert "**Measured.** w slides to 0.123" in gallery_page(read_figures(tmp_path, NOTEBOOKS))


def test_a_text_of_any_signs_comes_into_the_gallery_whole(site, pages):
    """Those that the files have: with colons, stars and arrows."""
    texts = pages[site / "gallery.html"].values("alt")
    for figure in read_figures(IMAGES, NOTEBOOKS):
        assert set(figure.alt.values()) <= set(texts)


def words_of(page):
    """The text of a page, without its line breaks."""
    return " ".join(page.html.to_text().split())


def test_the_front_page_answers_as_the_study_does(site, pages):
    """Against the findings themselves, of which the answers are made."""
    found = read_findings(ROOT / "study" / "contrasts.json")
    answer_to = {answer.question: answer for answer in answers(found)}
    words = words_of(pages[site / "index.html"]).replace("\u2019", "'")
    for question in ("Does CSBP help?", "Does chaos help?"):
        assert answer_to[question].short in words
        for part in re.split(r"(?:\d )?z_c|h\*", answer_to[question].plain):  # typeset there
            assert part.strip() in words


def test_the_page_of_verdicts_has_all_of_them(site, pages):
    words = words_of(pages[site / "verdicts.html"]).replace("\u2019", "'")  # as Sphinx sets it
    for row in verdicts(IMAGES):
        assert row.claim in words
        for part in re.split(r"(?:[\d.]+ )?z_c|h\*", row.measured):  # those are formulas there
            assert part.strip() in words
        assert row.verdict in words


@pytest.mark.parametrize(
    ("first_cell", "missing"), [("One neuron", "title"), ("# 1. One neuron\n\nIt spikes.", "claim")]
)
def test_a_notebook_without_title_or_claim_is_refused_by_name(first_cell, missing):
    paragraphs = first_cell.split("\n\n")
    with pytest.raises(ValueError, match=f"01_one has no {missing}"):
        title_in(paragraphs, "01_one"), claim_in(paragraphs, "01_one")


# Pages


def test_pages_are_valid_html(pages):
    assert {path: page.html.errors for path, page in pages.items() if page.html.errors} == {}


def test_no_name_stands_twice_in_a_page(pages):
    for path, page in pages.items():
        assert len(page.names) == len(set(page.names)), path


def names_a_file(text):
    return ".png" in text or "_images/" in text


def test_every_picture_has_a_text_in_its_place(pages):
    for path, page in pages.items():
        texts = [picture.attrs.get("alt", "") for picture in page.html.query("img")]
        assert [text for text in texts if not text or names_a_file(text)] == [], path


def is_picture(output):
    return "image/png" in output.get("data", {})


def test_pictures_of_a_notebook_have_the_texts_stored_beside_them(site, pages):
    stored = nbformat.read(NOTEBOOKS / "04_bifurcation.ipynb", as_version=4)
    outputs = [output for cell in stored.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if is_picture(output)]
    texts = [picture.metadata["image/png"]["alt"] for picture in pictures]
    assert pages[site / "notebooks" / "04_bifurcation.html"].values("alt") == texts


def test_pictures_of_a_notebook_lead_to_their_drawings(site, pages):
    stored = nbformat.read(NOTEBOOKS / "04_bifurcation.ipynb", as_version=4)
    outputs = [output for cell in stored.cells for output in cell.get("outputs", [])]
    pictures = [b64decode(output.data["image/png"]) for output in outputs if is_picture(output)]
    names = {path.read_bytes(): path.stem for path in IMAGES.glob("*.png")}
    expected = [f"../images/{names[picture]}.svg" for picture in pictures]
    links = pages[site / "notebooks" / "04_bifurcation.html"].html.query("a")
    assert [link.attrs["href"] for link in links if link.query("img")] == expected


def test_numbers_of_a_table_stand_on_the_right_below_their_head(site, pages):
    (table, *_) = pages[site / "BENCHMARKS.html"].html.query("table")
    rows = [row.query("th, td") for row in table.query("tr")]
    sides = [[cell.attrs.get("class", "") for cell in row[1:]] for row in rows]
    assert all("text-right" in side for row in sides for side in row)
    assert not any("text-right" in row[0].attrs.get("class", "") for row in rows)


def test_the_reference_lists_attributes_and_colours_programs_alone(site, pages):
    reference = pages[site / "api" / "chaotic_loss.html"].html
    heads = [without_spaces(head.to_text()) for head in reference.query("dt")]
    assert "Attributes:" in heads
    assert "Variables:" not in heads
    coloured = {
        block.to_text().split()[0]: bool(block.query("span[class]"))
        for block in reference.query("pre")
    }
    assert coloured["#"]  # After `total_steps` calls of chaos.step() ...
    assert not coloured["L"]  # L = -z (I0 log s + ...
    assert coloured[">>>"]


def test_no_markdown_is_left_in_a_page(pages):
    """Neither the bars of a table nor the signs of a formula or of bold letters."""
    for path, page in pages.items():
        paragraphs = [element.to_text().strip() for element in page.html.query("p")]
        assert [text for text in paragraphs if text.startswith(("| ", ":-"))] == [], path
        outputs = [element.to_text() for element in page.html.query(".cell_output")]
        assert [text for text in outputs if "$" in text or "**" in text] == [], path


def test_a_table_that_a_notebook_computed_is_a_table(site, pages):
    page = pages[site / "notebooks" / "07_choose_z.html"]
    assert "learning ends at z" in page.html.query(".cell_output th")[3].to_text()


def test_code_is_folded_but_for_the_parameters(site, pages):
    for path in NOTEBOOKS.glob("0*.ipynb"):
        stored = nbformat.read(path, as_version=4)
        cells = [cell for cell in stored.cells if cell.cell_type == "code"]
        page = pages[site / "notebooks" / f"{path.stem}.html"].html
        assert len(page.query(".cell_input")) == len(cells)
        assert len(page.query("details .cell_input")) == len(cells) - 1
        assert "hide-input" not in path.read_text()


def test_no_two_pages_have_one_title(pages):
    titles = [page.html.query("title")[0].to_text() for page in pages.values()]
    assert len(titles) == len(set(titles))


def test_how_to_choose_z_is_said_as_in_the_readme(site, pages):
    said = words_of(pages[site / "howto.html"])
    assert "begin again at the z of that formula" in said
    for page in ("howto.html", "api/chaotic_loss.html"):
        assert not re.search(r"divide z\b", words_of(pages[site / page]).lower()), page


def without_spaces(text):
    return "".join(text.split())


@pytest.mark.parametrize("start", ["importcsbp_core", "importnumpyasnp", ".venv/bin/torchrun"])
def test_lines_of_the_how_to_page_are_those_of_the_readme(site, pages, start):
    blocks = pages[site / "howto.html"].html.query("pre")
    code = [without_spaces(block.to_text()) for block in blocks]
    (block,) = [text for text in code if text.startswith(start)]
    assert block in without_spaces((ROOT / "README.md").read_text())


def test_the_how_to_page_has_the_three_lines(site, pages):
    blocks = pages[site / "howto.html"].html.query("pre")
    code = [without_spaces(block.to_text()) for block in blocks]
    (block,) = [text for text in code if text.startswith("importcsbp_core")]
    for line in ("chaos=csbp_core.ChaoticLoss(", "loss=criterion(", "chaos.step()#anneals"):
        assert block.count(line) == 1


@pytest.mark.parametrize(
    ("repository", "said"),
    [(None, "In a clone of the project:"), ("lab/csbp", "`git clone https://github.com/lab/csbp`")],
)
def test_a_clone_is_asked_for_only_where_the_address_is_known(repository, said):
    assert said in address(repository)
    assert ("git clone" in address(repository)) == (repository is not None)


def targets(page):
    """Files that the links of a page lead to, each with the name of a place in it, or none."""
    for link in page.values("href"):
        url = urlsplit(link)
        if url.scheme == "":
            path = page.path.parent / unquote(url.path) if url.path else page.path
            yield path.resolve(), unquote(url.fragment)


def test_every_link_leads_somewhere(pages):
    for page in pages.values():
        for path, place in targets(page):
            assert path.is_file(), (page.path, path)
            if place and path in pages:
                assert place in pages[path].names, (page.path, path, place)


def test_every_notebook_and_public_name_has_its_place(site, pages):
    for path in NOTEBOOKS.glob("0*.ipynb"):
        assert site / "notebooks" / f"{path.stem}.html" in pages
    names = {name for page in pages.values() for name in page.names}
    assert {f"csbp_core.{name}" for name in csbp_core.__all__ if name != "dynamics"} <= names
    assert {f"csbp_core.dynamics.{name}" for name in csbp_core.dynamics.__all__} <= names


# Formulas


def test_a_formula_becomes_mathml():
    formula = ET.fromstring(mathml(r"\frac{1}{2}\log(1 - s)", "block"))
    space = "{http://www.w3.org/1998/Math/MathML}"
    assert [element.text for element in formula.iter(f"{space}mn")] == ["1", "2", "1"]
    assert formula.find(f".//{space}mfrac") is not None


@pytest.mark.parametrize(
    ("formula", "spaces"),
    [
        (r"\log s", 1),
        (r"\log(s)", 0),
        (r"\max x", 1),
        (r"z \ln 2", 2),
        (r"(1 - a) \log(1 - s)", 1),
        (r"\frac12 \log\frac{a}{b}", 2),
        (r"a \cdot \log(s)", 0),
        (r"x = \log(s)", 0),
        (r"\lambda_{\max}", 0),
        (r"\bigl(\log(s)\bigr)", 0),
    ],
)
def test_a_function_stands_off_from_its_factor_and_from_a_bare_argument(formula, spaces):
    """Where TeX leaves a thin space."""
    assert mathml(formula, "inline").count("<mspace") == spaces


def test_a_star_is_that_of_mathematics_which_is_not_raised_by_itself():
    assert "&#x02217;" in mathml("w^*", "inline")
    assert "&#x0002A;" not in mathml("w^* h^{*}", "inline")


# The page of the package


@pytest.mark.parametrize(
    ("relative", "absolute"),
    [
        (
            "[07](notebooks/07.ipynb)",
            "[07](https://github.com/lab/csbp/blob/v1/notebooks/07.ipynb)",
        ),
        ('<img src="images/a.png">', '<img src="https://github.com/lab/csbp/raw/v1/images/a.png">'),
        ("![a](images/a.png)", "![a](https://github.com/lab/csbp/raw/v1/images/a.png)"),
        ("[doi](https://doi.org/1)", "[doi](https://doi.org/1)"),
        ("[below](#limits)", "[below](#limits)"),
        ("[a]: images/a.png\n", "[a]: https://github.com/lab/csbp/raw/v1/images/a.png\n"),
        ("[doi]: https://doi.org/1\n", "[doi]: https://doi.org/1\n"),
    ],
)
def test_links_of_the_packages_page_are_absolute(relative, absolute):
    assert with_absolute_links(relative, "lab/csbp", "v1") == absolute


# The explorer


def test_an_explorer_that_would_end_its_script_is_refused(tmp_path):
    script = tmp_path / "explorer.js"
    script.write_text('export function mount() { return "</script>"; }')
    with pytest.raises(ValueError, match=r"explorer\.js contains </script"):
        explorer_fragment(script)


# In a browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
DRIVER = shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="needs a browser and its driver, on Debian `apt-get install chromium chromium-driver`",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.add_argument("--headless=new")
    options.add_argument("--no-sandbox")  # which root, as in a container, cannot have
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def show_as(browser, width, theme="light"):
    """Give the window the width of a device, and the page the theme that its user prefers."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width <= PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    preferred = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", preferred)


def complaints(browser):
    """What the console has said since it was asked last."""
    return [entry["message"] for entry in browser.get_log("browser")]


def requested(browser):
    """The addresses that were asked for since it was asked last."""
    for entry in browser.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            yield event["params"]["request"]["url"]


@needs_browser
def test_no_page_complains_asks_another_host_or_is_wider_than_a_phone(browser, pages):
    show_as(browser, PHONE)
    for path in pages:
        browser.get(path.as_uri())
        assert complaints(browser) == [], path
        assert [url for url in requested(browser) if not url.startswith(HERE)] == [], path
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= PHONE, path


# A page of each kind: the others are of the same parts.
KINDS = (
    "index.html",
    "gallery.html",
    "explorer.html",
    "verdicts.html",
    "notebooks/02_single_neuron_csbp.html",
    "api/chaotic_loss.html",
    "search.html",
)
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]}}


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_can_be_read_by_everyone(browser, site, theme):
    """By axe: contrast of 4.5 to 1, names of what can be pressed, all within reach of the keys."""
    show_as(browser, 1300, theme)
    for name in KINDS:
        browser.get((site / name).as_uri())
        found = Axe().run(browser, options=RULES)["violations"]
        assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found] == [], name


# The parts of the table of verdicts, which a phone shows as blocks


def open_verdicts(browser, site, width):
    """Show the page, and wait for its table: Chromium may say too early that it is there."""
    show_as(browser, width)
    browser.get((site / "verdicts.html").as_uri())
    last = "#verdicts tr:last-child td:last-child code"
    WebDriverWait(browser, SOME_SECONDS).until(
        lambda _: browser.find_elements(By.CSS_SELECTOR, last)
    )


def heard(browser):
    """What a screen reader is told of the page: how often every role, and the names of columns."""
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    told = [node for node in nodes if not node["ignored"]]
    roles = Counter(node["role"]["value"] for node in told)
    heads = [node["name"]["value"] for node in told if node["role"]["value"] == "columnheader"]
    return roles, heads


@needs_browser
@pytest.mark.parametrize("width", [PHONE, 1300])
def test_screen_readers_have_the_table_of_verdicts_at_every_width(browser, site, width):
    open_verdicts(browser, site, width)
    roles, heads = heard(browser)
    claims = len(verdicts(IMAGES))
    assert heads == ["claim", "verdict", "what we measured", "published in", "notebook, test"]
    assert roles["table"] == 1
    assert roles["row"] == claims + 1
    assert roles["cell"] == claims * len(heads)
    found = Axe().run(browser, options=RULES)["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found] == []


# By tag, as "HTML Accessibility API Mappings" has it.
ROLES = {
    "table": "table",
    "thead": "rowgroup",
    "tbody": "rowgroup",
    "tr": "row",
    "th": "columnheader",
    "td": "cell",
}


def test_the_parts_of_the_table_of_verdicts_say_what_they_are(site, pages):
    """Chromium knows it without; others forget it where they are shown as blocks."""
    html = pages[site / "verdicts.html"].html
    for tag, role in ROLES.items():
        assert {part.attrs.get("role") for part in html.query(tag)} == {role}


@needs_browser
def test_on_a_phone_every_cell_of_the_verdicts_but_the_claim_begins_with_its_column(browser, site):
    open_verdicts(browser, site, PHONE)
    labels = browser.execute_script(
        "const cells = document.querySelectorAll('#verdicts tbody tr:first-child td > p');"
        "return [...cells].map(cell => getComputedStyle(cell, '::before').content);"
    )
    expected = ["verdict: ", "what we measured: ", "published in: ", "notebook "]
    assert labels == ["none", *(f'"{label}"' for label in expected)]


@needs_browser
def test_search_finds_a_word(browser, site):
    show_as(browser, 1300)
    browser.get(f"{(site / 'search.html').as_uri()}?q=bifurcation")
    hit = (By.CSS_SELECTOR, "#search-results a[href*='04_bifurcation']")
    WebDriverWait(browser, SOME_SECONDS).until(lambda browser: browser.find_elements(*hit))
    assert complaints(browser) == []


def drawn(browser):
    """The pictures of the explorer, as text."""
    script = "return [...document.querySelectorAll('canvas')].map(canvas => canvas.toDataURL())"
    return browser.execute_script(script)


def redrawn(browser, before):
    """The pictures once one of them has changed."""
    wait = WebDriverWait(browser, SOME_SECONDS)
    wait.until(lambda browser: drawn(browser) != before)
    return drawn(browser)


def open_explorer(browser, site, fragment=""):
    show_as(browser, 1300)
    browser.get("about:blank")  # else only the fragment changes
    browser.get(f"{(site / 'explorer.html').as_uri()}{fragment}")
    redrawn(browser, [])


def place(browser, element):
    """Where an element stands in the window: its left, right, top and bottom."""
    return browser.execute_script("return arguments[0].getBoundingClientRect().toJSON()", element)


def is_shown(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, f".csbp-explorer {selector}").is_displayed()


@needs_browser
def test_a_slider_is_named_by_its_label_and_says_its_digits(browser, site):
    open_explorer(browser, site)
    slider = browser.find_element(By.NAME, "beta")
    assert slider.accessible_name == "β factor of z per epoch"
    assert slider.get_attribute("aria-valuetext") == "0.99950"


@needs_browser
def test_what_an_address_has_wrong_stands_in_one_line(browser, site):
    open_explorer(browser, site, "#z0=99&strength=1&epoch=700")
    notice = browser.find_element(By.CSS_SELECTOR, ".csbp-explorer [role=alert]")
    assert notice.text.endswith("z0 = 99: must be a number in [0.5, 12]; strength is no parameter.")
    assert browser.find_element(By.NAME, "epoch").get_attribute("value") == "700"
    open_explorer(browser, site)
    assert not is_shown(browser, "[role=alert]")


@needs_browser
def test_a_link_within_the_page_leaves_the_sliders_as_they_are(browser, site):
    open_explorer(browser, site, "#z0=5")
    browser.execute_script("location.hash = '#explorer'")
    WebDriverWait(browser, 10).until(lambda browser: browser.current_url.endswith("#explorer"))
    # The event of a changed address comes before a timer that is set after it.
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert browser.find_element(By.NAME, "z0").get_attribute("value") == "5"


@needs_browser
def test_play_at_the_last_epoch_begins_again(browser, site):
    open_explorer(browser, site, "#epoch=3999")
    browser.find_element(By.CSS_SELECTOR, ".csbp-explorer .play").click()
    epoch = browser.find_element(By.NAME, "epoch")
    WebDriverWait(browser, 10).until(lambda _: 0 < int(epoch.get_attribute("value")) < 3999)


@needs_browser
@pytest.mark.parametrize(("I0", "holds"), [(0.65, True), (0.86, False)])
def test_z_c_is_said_only_where_it_holds(browser, site, I0, holds):
    open_explorer(browser, site, f"#I0={I0}")
    assert is_shown(browser, ".of-critical") == holds
    assert is_shown(browser, ".no-critical") != holds
    state = browser.find_element(By.CSS_SELECTOR, ".csbp-explorer .state").text
    assert ("critical" in state) == holds


@needs_browser
def test_on_a_phone_the_curve_stays_in_sight_below_the_bar_while_a_slider_is_moved(browser, site):
    open_explorer(browser, site)
    show_as(browser, PHONE)
    last = browser.find_element(By.NAME, "rate_steps")
    by = place(browser, last)["top"] - 400
    browser.execute_script("scrollBy({top: arguments[0], behavior: 'instant'})", by)
    bar = browser.find_element(By.CSS_SELECTOR, ".mobile-header")
    curve = browser.find_element(By.CSS_SELECTOR, ".csbp-explorer .trajectory")
    assert place(browser, curve)["top"] == pytest.approx(place(browser, bar)["bottom"], abs=1)
    assert place(browser, curve)["bottom"] < place(browser, last)["top"]


# The theme changes while the explorer is hidden, until just after it would have been drawn.
HIDDEN_FOR_A_MOMENT = """
const explorer = document.querySelector(".csbp-explorer");
explorer.style.display = "none";
document.body.dataset.theme = "dark";
Promise.resolve().then(() => requestAnimationFrame(() => { explorer.style.display = ""; }));
"""


@needs_browser
def test_the_explorer_follows_a_theme_that_changes_while_it_is_hidden(browser, site):
    open_explorer(browser, site)
    explorer = browser.find_element(By.CSS_SELECTOR, ".csbp-explorer")
    assert explorer.get_attribute("data-dark") is None
    pictures = drawn(browser)
    browser.execute_script(HIDDEN_FOR_A_MOMENT)
    redrawn(browser, pictures)
    assert explorer.get_attribute("data-dark") is not None


@needs_browser
def test_on_a_wide_page_all_curves_stand_beside_the_sliders(browser, site):
    open_explorer(browser, site)
    sliders = place(browser, browser.find_element(By.CSS_SELECTOR, ".csbp-explorer .controls"))
    for canvas in browser.find_elements(By.TAG_NAME, "canvas"):
        assert place(browser, canvas)["left"] > sliders["right"]


SLIDERS = ("z0", "beta", "I0", "lr", "w0", "time_steps", "rate_steps", "epoch")


@needs_browser
def test_the_keyboard_reaches_every_slider_and_each_changes_a_picture(browser, site):
    show_as(browser, 1300)
    browser.get((site / "explorer.html").as_uri())
    pictures = redrawn(browser, [])
    reached = set()
    first = browser.find_element(By.CSS_SELECTOR, ".csbp-explorer button")
    browser.execute_script("arguments[0].focus()", first)
    for _ in range(len(SLIDERS) + 10):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        element = browser.switch_to.active_element
        if element.get_attribute("type") == "range":
            element.send_keys(Keys.ARROW_LEFT * 3)
            pictures = redrawn(browser, pictures)
            reached.add(element.get_attribute("name"))
    assert reached == set(SLIDERS)
    assert complaints(browser) == []


# In JupyterLab


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# Shows the widget, and writes down where its first slider stands whenever it is moved.
CELL = """\
from pathlib import Path
from csbp_notebooks.explorer import Explorer

explorer = Explorer()
explorer.observe(lambda change: Path("z0").write_text(str(change.new)), "z0")
explorer"""


@pytest.fixture
def lab(tmp_path) -> Iterator[str]:
    """The address of a JupyterLab with a notebook that shows the widget."""
    cells = [nbformat.v4.new_code_cell(CELL)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.write(notebook, tmp_path / "widget.ipynb")
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.port={port}", "--IdentityProvider.token="]
    own = {"JUPYTER_CONFIG_DIR": str(tmp_path), "JUPYTERLAB_SETTINGS_DIR": str(tmp_path)}
    server = subprocess.Popen(
        [*command, "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"],
        cwd=tmp_path,
        env={**os.environ, **own},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"http://127.0.0.1:{port}/lab/tree/widget.ipynb"
    server.terminate()
    server.wait(SOME_SECONDS)


def open_when_ready(browser, address):
    """Load a page of a server that is about to start."""

    def answers(browser):
        try:
            browser.get(address)
        except WebDriverException:  # nobody listens yet
            return False
        return True

    WebDriverWait(browser, A_MINUTE).until(answers)


def shown(browser, selector):
    """The first element of a selector, once it can be seen."""

    def visible(browser):
        elements = browser.find_elements(By.CSS_SELECTOR, selector)
        return next((element for element in elements if element.is_displayed()), None)

    return WebDriverWait(browser, A_MINUTE).until(visible)


def run_until_shown(browser, selector):
    """Run the first cell until its output has an element: JupyterLab may not listen yet."""

    def found(browser):
        elements = browser.find_elements(By.CSS_SELECTOR, selector)
        if elements:
            return elements[0]
        shown(browser, ".jp-NotebookPanel .cm-content").click()
        shown(browser, "[data-status=idle]")  # the kernel's
        keys = ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ENTER)
        keys.key_up(Keys.SHIFT).perform()
        return None

    patient = WebDriverWait(browser, 2 * A_MINUTE, 10, ignored_exceptions=[WebDriverException])
    return patient.until(found)


@needs_browser
def test_the_widget_works_in_jupyterlab_and_python_sees_its_sliders(browser, lab, tmp_path):
    show_as(browser, 1300)
    open_when_ready(browser, lab)
    slider = run_until_shown(browser, ".csbp-explorer input[name=z0]")
    pictures = drawn(browser)
    slider.send_keys(Keys.HOME)
    redrawn(browser, pictures)
    seen = tmp_path / "z0"
    smallest = float(slider.get_attribute("min"))
    WebDriverWait(browser, SOME_SECONDS).until(
        lambda _: seen.exists() and float(seen.read_text() or "nan") == smallest
    )
