"""The morning report as a person sees it: opened in Debian's Chromium, without a network."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_store import realistic, save_model

from keepline.report import write_report
from keepline.settings import Settings

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
    ),
]
# Alone on the machine: no updates, no look-ups, no sandbox (root in a container has none).
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
# Plots, the texts of theirs that stick out, and neighbouring tick labels that touch each other.
LOOK_AT_PLOTS = """
() => {
  const found = [];
  for (const source of document.querySelectorAll("script[data-plot]")) {
    const place = document.getElementById(source.dataset.plot);
    const frame = place.getBoundingClientRect();
    const seen = { name: place.id, drawn: 0, out: [], touching: [] };
    for (const svg of place.querySelectorAll("svg.main-svg")) {
      const box = svg.getBoundingClientRect();
      if (box.width > 100 && box.height > 50) seen.drawn += svg.querySelectorAll("path, rect").length;
    }
    for (const text of place.querySelectorAll("svg.main-svg text")) {
      const box = text.getBoundingClientRect();
      if (!box.width) continue;
      const out = box.left < frame.left - 2 || box.right > frame.right + 2
        || box.top < frame.top - 2 || box.bottom > frame.bottom + 2;
      if (out) seen.out.push(text.textContent);
    }
    for (const axis of [".xtick", ".ytick"]) {
      const labels = [...place.querySelectorAll(axis + " text")];
      for (const [n, label] of labels.entries()) for (const other of labels.slice(n + 1)) {
        const [p, q] = [label.getBoundingClientRect(), other.getBoundingClientRect()];
        const beside = p.right <= q.left || q.right <= p.left;
        const above = p.bottom <= q.top || q.bottom <= p.top;
        if (!beside && !above) seen.touching.push([label.textContent, other.textContent]);
      }
    }
    found.push(seen);
  }
  return found;
}
"""
# Elements whose text is wider than they are; tables may scroll within their own place.
LOOK_AT_TEXT = """
() => [...document.querySelectorAll("h1, h2, p, li, figcaption, summary, .tile b, .tile span")]
  .filter((e) => e.offsetParent && getComputedStyle(e).display !== "inline")
  .filter((e) => e.scrollWidth > e.clientWidth + 1)
  .map((e) => e.textContent.slice(0, 60))
"""
# Share of the pixels that are not the commonest colour.
LOOK_AT_PICTURE = """
async (png) => {
  const image = new Image();
  image.src = "data:image/png;base64," + png;
  await image.decode();
  const { width, height } = image;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
  const seen = new Map();
  for (const pixel of pixels) seen.set(pixel, (seen.get(pixel) ?? 0) + 1);
  return { colours: seen.size, share: 1 - Math.max(...seen.values()) / pixels.length };
}
"""


@pytest.fixture
def browser() -> Iterator[Any]:
    """Return a headless Chromium with a profile of its own."""
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield opened
        opened.close()


@pytest.fixture
def report(settings: Settings) -> Path:
    """Return the report of a morning like the demo's."""
    said = (0.002, 0.004, 0.006, 0.009, 0.012, 0.016, 0.022, 0.035, 0.07, 0.21)
    tiers = [("HIGH", 96, 30.2, 31), ("MEDIUM", 240, 24.8, 47), ("LOW", 2064, 20.1, 26)]
    save_model(
        settings,
        reliability=[{"said": p, "seen": 1.2 * p, "n": 50} for p in said],
        said_and_came=[
            {"tier": tier, "subscriptions": lines, "said": said, "came": came}
            for tier, lines, said, came in tiers
        ],
    )
    return write_report(settings, realistic(settings).publish())


def test_page_is_drawn_whole_and_asks_nobody(browser: Any, report: Path, tmp_path: Path) -> None:
    # given a desk's screen
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    said, asked, failed = [], [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.url))

    # when
    page.goto(report.as_uri())
    page.wait_for_load_state("load")
    picture = page.screenshot(path=str(tmp_path / "report.png"), full_page=True)

    # then nothing went wrong or out
    assert said == []
    assert failed == []
    assert asked == [report.as_uri()]

    # then every plot is drawn, its texts within it and apart from each other
    plots = page.evaluate(LOOK_AT_PLOTS)
    assert {plot["name"] for plot in plots} == {
        "plot-tiers",
        "plot-base-months",
        "plot-base-last",
        "plot-churn-places",
        "plot-risk-places",
        "plot-rfm",
        "plot-segments",
        "plot-trends",
        "plot-pareto-months",
        "plot-pareto-places",
        "plot-calibration-0",
    }
    for plot in plots:
        assert plot["drawn"] > 5, plot
        assert plot["out"] == [], plot
        assert plot["touching"] == [], plot

    # then no text is cut and the picture holds something
    assert page.evaluate(LOOK_AT_TEXT) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    other = browser.new_page()
    seen = other.evaluate(LOOK_AT_PICTURE, base64.b64encode(picture).decode())
    assert seen["colours"] > 100
    assert seen["share"] > 0.1


def test_page_fits_a_phone_and_paper(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(LOOK_AT_TEXT) == []

    # Paper: Chromium tells the page, which gives its plots the width of an A4 sheet.
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    widths = page.evaluate(
        "[...document.querySelectorAll('.plot .svg-container')].map((e) => e.offsetWidth)"
    )
    assert set(widths) == {680}
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    widths = page.evaluate(
        "[...document.querySelectorAll('.plot .svg-container')].map((e) => e.offsetWidth)"
    )
    assert max(widths) <= 390


def test_keyboard_reaches_the_numbers(browser: Any, report: Path) -> None:
    # given a reader who uses the keyboard alone
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(report.as_uri())

    # then the first stop leads past the head, and folded numbers open
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the contents"
    page.locator("#base summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#base details table").first.is_visible()

    # then every plot says what it shows, every table what it holds
    assert page.locator(".plot:not([role=img]), .plot[aria-label='']").count() == 0
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("html[lang=en]").count() == 1
