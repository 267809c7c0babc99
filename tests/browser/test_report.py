"""The report in a browser: nothing is fetched, every chart is drawn and can be read everywhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import DESKTOP, PHONE
from tests.pipeline.report_project import PAGE

# A mark is seen if it has a size and a colour: Vega writes "undefined" where a scale has none.
SEEN = """chart => [...chart.querySelectorAll("svg .mark-group svg path, svg path")].some(path => {
    const style = getComputedStyle(path), box = path.getBoundingClientRect();
    const drawn = colour => colour !== "none" && colour !== "rgba(0, 0, 0, 0)";
    return path.closest("[class*=role-mark]") && box.width + box.height > 4
        && (drawn(style.stroke) || drawn(style.fill)) && style.opacity !== "0";
})"""
# The contrast of two CSS colours, as WCAG 2 defines it.
CONTRAST = """([one, other]) => {
    const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const luminance = colour => {
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map(byte => {
            const share = byte / 255;
            return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const [dark, bright] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
}"""


@pytest.fixture
def address(reported: Path) -> str:
    """A page with every kind of chart."""
    return (reported / PAGE).as_uri()


def drawn(page: Any) -> Any:
    """The page, once every chart is there."""
    page.wait_for_function(
        "[...document.querySelectorAll('.chart')].every(chart => chart.querySelector('svg'))"
    )
    return page


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_the_page(
    open_page: Callable[..., Any], address: str, width: int, color_scheme: str
) -> None:
    page, problems = open_page(address, width=width, color_scheme=color_scheme)
    drawn(page)
    charts = page.query_selector_all(".chart")
    assert len(charts) > 10
    unseen = [chart.get_attribute("id") for chart in charts if not chart.evaluate(SEEN)]
    assert unseen == []
    assert all(chart.get_attribute("aria-label") for chart in charts)
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.evaluate(wide)
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0
    assert problems == []


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_texts_stand_out(open_page: Callable[..., Any], address: str, color_scheme: str) -> None:
    page, _ = open_page(address, color_scheme=color_scheme)
    drawn(page)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    texts = "p, li, a, td, th, caption span, figcaption, .verdict, .chart svg text"
    colours = page.evaluate(
        """selector => [...new Set([...document.querySelectorAll(selector)].map(element =>
            element.closest(".mark-text.role-mark") ? null : element.ownerSVGElement
                ? getComputedStyle(element).fill : getComputedStyle(element).color))]
            .filter(colour => colour)""",
        texts,
    )
    assert len(colours) > 3
    for colour in colours:
        assert page.evaluate(CONTRAST, [colour, ground]) >= 4.5, colour


def test_hovering_tells_the_numbers(open_page: Callable[..., Any], address: str) -> None:
    page, problems = open_page(address)
    drawn(page)
    for chart, mark, said in (
        ("error-against-depth", "symbol", ["hidden layers × width", "relative difference"]),
        ("equivalence", "symbol", ["seed", "difference (points)"]),
        ("learning-digits-square-validation", "symbol", ["model", "seed", "epoch", "result"]),
        ("cosine-digits-square-gait", "symbol", ["epoch", "layer"]),
        ("sweep-learning_rate_and_orthogonality-gait", "rect", ["λ", "MLflow run"]),
    ):
        page.locator(f"#{chart} .mark-{mark} path").last.hover(force=True)
        tooltip = page.locator("#vg-tooltip-element.visible", has_text=said[-1])
        tooltip.wait_for()
        text = tooltip.inner_text()
        assert all(each in text for each in said), text
        assert "undefined" not in text
    assert problems == []


def test_headings_and_tables(open_page: Callable[..., Any], address: str) -> None:
    page, _ = open_page(address)
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    for table in page.query_selector_all("table"):
        assert table.query_selector("caption")
        assert not table.query_selector("th:not([scope])")
    targets = page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href'))"
    )
    assert len(targets) > 8
    assert all(page.query_selector(target) for target in targets)
    assert page.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == (
        page.evaluate("document.querySelectorAll('[id]').length")
    )


def test_without_a_script(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert "The charts are drawn by a script" in page.inner_text("body")
    assert page.locator("table .verdict").count() > 10
    context.close()


def test_on_paper(open_page: Callable[..., Any], address: str) -> None:
    page, _ = open_page(address, color_scheme="dark")
    drawn(page)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    assert not page.is_visible("nav")
