"""The whole report in a real browser: nothing from the network, nothing in the console, every chart
drawn, readable and usable by keyboard at the width of a phone and of a desk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find
from recorded import add_snapshots, add_stability
from test_verdict import around, write_study

from anygate.lab import report
from anygate.lab.study.store.results import load

pytestmark = pytest.mark.skipif(
    find() is None, reason="no Chromium or Chrome on this machine; name one by CHROMIUM=..."
)
WIDTHS = (400, 1400)
LONG = "where(x > 0, x + log(1 + x**2), expm1(x)*sigmoid(3*x))"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every figure, a long formula and runs that diverged."""
    root = tmp_path_factory.mktemp("study")
    finals = {
        "tanh": around(0.9, 6),
        "relu": [None, *around(0.8, 5)],
        LONG: around(0.85, 6),
        "hard_tanh": around(0.88, 6),
        "sigmoid": around(0.7, 6),
    }
    write_study(
        root,
        finals,
        formulas={"relu": "max(x, 0)", "hard_tanh": "clip(x, -1, 1)"},
        seconds={name: 1 + k / 10 for k, name in enumerate(finals)},
    )
    add_snapshots(root, {name: 0.9 - k / 10 for k, name in enumerate(finals)}, saturated=0.7)
    grid = [(rate, bias) for rate in (0.0015, 0.005, 0.015, 0.05, 0.15) for bias in (0.0, 1.0, 2.0)]
    add_stability(root, {name: dict.fromkeys(grid, k % 4) for k, name in enumerate(finals)})
    return report.write(load(root), root)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(find() or "") as running:
        yield running


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_fetched_and_nothing_fails(
    page: Path, browser: Browser, width: int, dark: bool
) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.errors == []


def test_the_browser_would_see_an_error_and_a_request(browser: Browser, tmp_path: Path) -> None:
    """That the two lists are empty above means something."""
    page = tmp_path / "bad.html"
    page.write_text(
        '<script>console.error("one"); throw new Error("two")</script>'
        '<img src="https://example.invalid/three.png">'
    )
    browser.open(page, width=400)
    assert any("one" in e for e in browser.errors) and any("two" in e for e in browser.errors)
    assert "https://example.invalid/three.png" in browser.requests


@pytest.mark.parametrize("width", WIDTHS)
def test_every_chart_is_drawn_within_its_frame(page: Path, browser: Browser, width: int) -> None:
    browser.open(page, width=width)
    found = browser.evaluate("""[...document.querySelectorAll('[data-spec]')].map(e => {
        const svg = e.querySelector('svg'), box = e.getBoundingClientRect();
        const drawn = svg ? svg.getBoundingClientRect() : null;
        return {id: e.dataset.spec, marks: svg ? svg.querySelectorAll('[class*=mark-] path, text')
                .length : 0, right: drawn ? drawn.right - box.right : null,
                wide: drawn ? drawn.width : 0, text: svg ? '' : e.textContent};
    })""")
    assert len(found) > 25
    for chart in found:
        assert chart["marks"] > 5, chart
        assert chart["right"] <= 1 and chart["wide"] > 200, chart


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(page: Path, browser: Browser, width: int) -> None:
    browser.open(page, width=width)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    wide = browser.evaluate("""(() => {
        const scrolls = e => e && (getComputedStyle(e).overflowX !== 'visible' ||
                                   scrolls(e.parentElement));
        return [...document.body.querySelectorAll('*')].filter(e =>
            e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e.parentElement))
            .map(e => e.outerHTML.slice(0, 80));
    })()""")
    assert wide == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_text_in_charts_is_large_enough_and_does_not_overlap(
    page: Path, browser: Browser, width: int
) -> None:
    browser.open(page, width=width)
    found = browser.evaluate("""[...document.querySelectorAll('[data-spec]')].map(e => {
        const texts = [...e.querySelectorAll('svg text')].filter(t => t.textContent.trim() &&
            getComputedStyle(t).opacity > 0 && parseFloat(getComputedStyle(t).fontSize) > 0);
        const boxes = texts.map(t => [t.textContent, t.getBoundingClientRect()]);
        const small = texts.filter(t => parseFloat(getComputedStyle(t).fontSize) < 9);
        const over = [];
        for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
            const [a, p] = boxes[i], [b, q] = boxes[j];
            const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
            const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
            if (across > 1 && down > 4) over.push(a + ' | ' + b);
        }
        return {id: e.dataset.spec, small: small.map(t => t.textContent), over};
    })""")
    poor = [c for c in found if c["small"] or c["over"]]
    assert poor == [], json.dumps(poor, ensure_ascii=False)


def test_the_keyboard_reaches_everything_that_can_be_used(page: Path, browser: Browser) -> None:
    browser.open(page, width=1400)
    wanted = browser.evaluate("""(() => { const all = [...document.querySelectorAll('*')];
        return all.filter(e => e.matches('a[href], summary, [tabindex="0"]') && e.checkVisibility())
            .map(e => all.indexOf(e)); })()""")
    seen: dict[int, tuple[str, str]] = {}
    for _ in range(len(wanted) + 8):  # a browser adds what can be scrolled
        browser.press("Tab", 9)
        place, tag, ring = browser.evaluate("""(() => { const e = document.activeElement;
            return [[...document.querySelectorAll('*')].indexOf(e), e.tagName,
                    getComputedStyle(e).outlineStyle]; })()""")
        seen.setdefault(place, (tag, ring))
    assert next(iter(seen)) == wanted[0]  # the link that skips to the report
    assert len(wanted) > 30 and set(wanted) <= set(seen)
    assert [p for p in seen if p in wanted] == wanted  # in the order of the page
    assert all(ring != "none" for tag, ring in seen.values() if tag != "BODY")


def test_enter_opens_a_table_and_the_skip_link_leads_to_the_report(
    page: Path, browser: Browser
) -> None:
    browser.open(page, width=1400)
    browser.press("Tab", 9)
    browser.press("Enter", 13)
    assert browser.evaluate("document.activeElement.id") == "main"
    browser.evaluate(
        "document.querySelector('#gradient_flow').closest('section')"
        ".querySelector('summary').focus()"
    )
    before = browser.evaluate("document.activeElement.parentElement.open")
    browser.press("Enter", 13)
    assert (before, browser.evaluate("document.activeElement.parentElement.open")) == (False, True)


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(page: Path, browser: Browser, dark: bool) -> None:
    """Contrast of 4.5 or more (WCAG 2.2, 1.4.3) for the texts of the page and of the charts, of
    those in cells against their cell; 3 for a mark (1.4.11)."""
    browser.open(page, width=1400, dark=dark)
    poor = browser.evaluate("""(() => {
        const parse = c => { const n = c.match(/[\\d.]+/g).map(Number);
            return n.length > 3 ? n : [...n, 1]; };
        const mix = (a, b) => [0, 1, 2].map(k => a[k] * a[3] + b[k] * (1 - a[3])).concat(1);
        const light = c => [0.2126, 0.7152, 0.0722].map((w, k) => { const v = c[k] / 255;
            return w * (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); })
            .reduce((a, b) => a + b);
        const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
            return (x + 0.05) / (y + 0.05); };
        const behind = e => { const c = parse(getComputedStyle(e).backgroundColor);
            return c[3] === 1 ? c : e.parentElement ? mix(c, behind(e.parentElement)) : c; };
        const bad = [];
        const check = (e, ink, paper) => { const r = ratio(mix(parse(ink), paper), paper);
            const text = e.textContent.trim(), least = text === '✕' ? 3 : 4.5;  // that is a mark
            if (r < least) bad.push([text.slice(0, 30), ink, paper.join(), r]); };
        const texts = 'p, li, td, th, dd, dt, h1, h2, h3, a, summary, code, small, figcaption';
        for (const e of document.querySelectorAll(texts))
            if (e.checkVisibility()) check(e, getComputedStyle(e).color, behind(e));
        for (const svg of document.querySelectorAll('[data-spec] svg')) {
            const paper = behind(svg.parentElement);
            const cells = [...svg.querySelectorAll('.mark-rect path')];
            for (const t of svg.querySelectorAll('text')) {
                const shown = parseFloat(getComputedStyle(t).fontSize) > 0;
                if (!t.textContent.trim() || !shown) continue;
                const at = t.getBoundingClientRect();
                const x = (at.left + at.right) / 2, y = (at.top + at.bottom) / 2;
                const cell = cells.find(c => { const b = c.getBoundingClientRect();
                    return b.left < x && x < b.right && b.top < y && y < b.bottom; });
                const s = cell && getComputedStyle(cell);
                const under = s ? mix([...parse(s.fill).slice(0, 3), Number(s.fillOpacity)], paper)
                    : paper;
                check(t, getComputedStyle(t).fill, under);
            }
        }
        return bad;
    })()""")
    assert poor == [], json.dumps(poor[:10], ensure_ascii=False)


def test_the_first_chart_begins_on_the_first_screen(page: Path, browser: Browser) -> None:
    """Of a desk, 900 pixels high."""
    browser.open(page, width=1400)
    top = browser.evaluate("document.querySelector('.chart').getBoundingClientRect().top")
    assert 0 < top < 900
