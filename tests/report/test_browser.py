"""The report in a browser: opens from disk, asks for nothing, fits, sorts by keyboard, prints."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.fail("chromium is not installed: sudo apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, sample_report):
    opened = []

    def open_at(width, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        page = context.new_page()
        page.problems, page.requested = [], []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto(sample_report.report.as_uri())
        opened.append(context)
        return page

    yield open_at
    for context in opened:
        context.close()


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_from_disk_without_an_error_or_a_request(open_page, sample_report, width, scheme):
    page = open_page(width, color_scheme=scheme)
    assert page.problems == []
    assert page.requested == [sample_report.report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "no sideways scrolling of the page"


def test_the_first_screen_holds_the_answer(open_page):
    page = open_page(1400)
    for selector in ("h1", "#verdict", "#number-achieved", "#number-busiest", "#limits"):
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= 900, selector


def test_texts_of_figures_stay_within_them(open_page):
    page = open_page(1400)
    outside = page.evaluate(
        """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
             const frame = svg.getBoundingClientRect();
             return [...svg.querySelectorAll('text')].filter(text => {
               const box = text.getBoundingClientRect();
               return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1
                                    || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
             }).map(text => svg.getAttribute('aria-label').slice(0, 40) + ': ' + text.textContent.trim());
           })"""
    )
    assert outside == []


def test_a_table_sorts_by_keyboard(open_page):
    page = open_page(1400)
    table = page.locator("#table-usage")
    column = "td:nth-child(3)"
    before = [float(v) for v in table.locator(f"tbody {column}").evaluate_all("c => c.map(x => x.dataset.sort)")]
    button = table.locator("th").nth(2).locator("button")
    button.focus()
    page.keyboard.press("Enter")
    down = [float(v) for v in table.locator(f"tbody {column}").evaluate_all("c => c.map(x => x.dataset.sort)")]
    assert down == sorted(before, reverse=True) and down != before
    assert table.locator("th").nth(2).get_attribute("aria-sort") == "descending"
    page.keyboard.press("Space")
    up = [float(v) for v in table.locator(f"tbody {column}").evaluate_all("c => c.map(x => x.dataset.sort)")]
    assert up == sorted(before)


def test_it_is_whole_without_its_script(open_page):
    page = open_page(1400, java_script_enabled=False)
    assert page.locator("#table-usage tbody tr").count() == 4
    assert page.locator("figure svg").count() == 10


def test_the_keyboard_reaches_contents_and_wide_figures(open_page):
    page = open_page(400, 800)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    figure = page.locator("#hosts-figure .scroll")
    figure.focus()
    page.keyboard.press("ArrowRight")
    # Scrolling is smooth, and the page's policy lets no string be evaluated again and again.
    deadline = time.monotonic() + 10
    while not figure.evaluate("box => box.scrollLeft"):
        assert time.monotonic() < deadline, "the arrow key does not scroll the figure"
        page.wait_for_timeout(50)


def test_it_prints(open_page, tmp_path):
    page = open_page(1400)
    target = Path(tmp_path / "report.pdf")
    page.pdf(path=target, prefer_css_page_size=True)
    content = target.read_bytes()
    assert content[:5] == b"%PDF-"
    assert 4 <= content.count(b"/Type /Page\n") <= 25
    assert len(content) < 5_000_000
