# SPDX-License-Identifier: MIT
"""The admin page in Chromium: what it shows, with the keyboard, to screen readers, and under its own policy."""

import re
import sys

import pytest

pytest.importorskip("websockets")

from browser import Page, find_browser
from program import APPLICATION, Program, write
from test_admin import ADMIN, admin_port

pytestmark = pytest.mark.cxxloop_only("the server")

CHARTS = ("Requests", "Latency", "Loop lag", "Connections", "Memory", "Tasks")


@pytest.fixture(scope="module")
def browser():
    path = find_browser()
    if path is None:
        pytest.skip("there is no Chromium")
    page = Page(path)
    yield page
    page.close()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    pytest.importorskip("click")
    folder = tmp_path_factory.mktemp("admin")
    write(folder, "app.py", APPLICATION)
    program = Program(folder, [sys.executable, "-m", "cxxloop", "serve", "app:app", "--port", "0", *ADMIN])
    program.port()
    program.get()
    yield program
    program.close()


@pytest.fixture
def page(browser, program):
    """The page of a server that has answered a request, with two samples at least."""
    browser.errors.clear()
    browser.prefer()
    browser.resize(1360, 900)
    browser.open(f"http://127.0.0.1:{admin_port(program)}/")
    browser.wait_for("document.getElementById('state')?.dataset.state === 'live'")
    browser.wait_for("+document.querySelector('.plot')?.getAttribute('aria-valuemax') >= 1")
    return browser


def test_page_shows_live_numbers_and_breaks_no_rule_of_its_policy(page):
    assert page.evaluate("document.title") == "app:app – cxxloop admin"
    headings = page.evaluate("[...document.querySelectorAll('figure h3')].map(found => found.textContent)")
    assert tuple(headings) == CHARTS
    for number in range(len(CHARTS)):
        assert page.evaluate(f"document.querySelectorAll('.plot')[{number}].querySelectorAll('path.series').length") >= 1
    page.wait_for("document.querySelectorAll('.series-1')[5].getAttribute('d').includes('L')")  # a line, not a moment
    assert re.search(r"\d.* connections, .* tasks, .* MB\.$", page.evaluate("document.getElementById('summary').textContent"))
    page.wait_for("document.querySelectorAll('#tasks tr').length > 0")
    assert page.errors == []


def test_keyboard_reaches_every_moment(page):
    page.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(3):
        page.press("Tab")
        if page.evaluate("document.activeElement.className") == "plot":
            break
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Requests, moments"
    page.press("ArrowLeft")
    crosses = "document.querySelectorAll('.cross').length"
    assert page.evaluate(crosses) == len(CHARTS), "one moment in all charts"
    assert re.fullmatch(r"\d\d:\d\d:\d\d: per second \S+/s", page.evaluate("document.activeElement.getAttribute('aria-valuetext')"))
    page.press("Home")
    assert page.evaluate("document.activeElement.getAttribute('aria-valuenow')") == "0"
    page.press("Escape")
    assert page.evaluate(crosses) == 0
    assert page.evaluate("document.querySelector('.at').textContent") == "now"


def test_pause_stops_what_moves(page):
    page.evaluate("document.getElementById('pause').focus()")
    page.press("Enter")
    assert page.evaluate("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    assert page.evaluate("document.getElementById('state').textContent") == "Paused"
    page.evaluate(
        "window.changes = 0; new MutationObserver(() => ++window.changes).observe(document.getElementById('charts'), {subtree: true, childList: true})"
    )
    # Events go on to arrive: two of them, seen by a listener of our own.
    page.evaluate("new Promise(done => { let count = 0; new EventSource('events').addEventListener('sample', () => ++count === 2 && done()) })")
    assert page.evaluate("window.changes") == 0
    page.press("Enter")
    page.wait_for("window.changes > 0")
    assert page.evaluate("document.getElementById('state').textContent") == "Live"


def test_tables_say_what_charts_show(page):
    page.evaluate("document.querySelectorAll('details summary')[1].click()")
    page.wait_for("document.querySelectorAll('details')[1].querySelectorAll('tbody tr').length > 0")
    columns = page.evaluate("[...document.querySelectorAll('details')[1].querySelectorAll('thead th')].map(found => found.textContent)")
    assert columns == ["Time", "p50", "p95", "p99"]
    cells = page.evaluate("[...document.querySelectorAll('details')[1].querySelectorAll('tbody td')].map(found => found.textContent)")
    assert all(re.fullmatch(r"none|[\d.,]+ (?:µs|ms|s)", cell) for cell in cells)


def test_screen_readers_find_landmarks_names_and_a_polite_summary(page):
    nodes = page.accessible()
    roles = {role for role, _ in nodes}
    assert {"banner", "main", "contentinfo", "navigation", "status"} <= roles
    sliders = [name for role, name in nodes if role == "slider"]
    assert sliders == [f"{title}, moments" for title in CHARTS]
    assert all(name for role, name in nodes if role in ("button", "link", "slider", "region", "figure"))
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("document.getElementById('summary').getAttribute('aria-live')") == "polite"
    assert page.evaluate("document.querySelectorAll('h1').length") == 1


CONTRAST = """
(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = node => { for (; node; node = node.parentElement) { const c = parse(getComputedStyle(node).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const found = [];
  for (const node of document.querySelectorAll('h1, h1 span, h2, h3, p, dt, dd, th, td, a, button, summary, .place, text.tick, path.series')) {
    const style = getComputedStyle(node);
    const isLine = node.matches('path.series');
    const colour = parse(isLine ? style.stroke : node.matches('text') ? style.fill : style.color);
    const value = ratio(colour, ground(node.closest('.card') || node));
    if (value < (isLine ? 3 : 4.5)) found.push([node.tagName, node.textContent.slice(0, 20), value]);
  }
  return found;
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(page, scheme):
    page.prefer(color_scheme=scheme, reduced_motion="reduce")
    grounds = {"light": "rgb(244, 246, 249)", "dark": "rgb(14, 19, 27)"}
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == grounds[scheme]
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("getComputedStyle(document.getElementById('pause')).transitionDuration") == "0s"


def test_page_fits_a_narrow_screen(page):
    page.resize(360, 700)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_lost_server_is_told(page, program):  # the last one
    program.end()
    page.wait_for("document.getElementById('state').dataset.state === 'lost'")
    assert page.evaluate("document.getElementById('state').textContent") == "Connection lost, trying again"
