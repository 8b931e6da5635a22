"""The report: complete, offline, escaped, readable without a mouse, and strict JSON beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from recorded import add_snapshots, add_stability
from test_verdict import around, write_study

from anygate.lab import report
from anygate.lab.findings.verdict import verdict
from anygate.lab.report import charts, page
from anygate.lab.report.formulas import Shape, describe_saturation, shape_of, to_mathml
from anygate.lab.report.page import figures
from anygate.lab.report.style import look
from anygate.lab.report.summary import finite, summary_text
from anygate.lab.study.store.results import StudyResults, load
from anygate.lab.study.store.schema import ActivationInfo

EVIL = "<script>alert(1)</script>"
FIGURES = {
    "learning_curves",
    "final_metric",
    "differences",
    "formulas",
    "saturation",
    "gradient_norm",
    "max_abs_cell",
    "cost",
    "pairwise",
    "saturation_over_time",
    "gradient_flow",
    "stability_map",
    "cost_and_outcome",
}
VOID = {"meta", "link", "br", "img", "input", "hr", "path"}


class Page(HTMLParser):
    """A page as a flat list of (tag, attributes, text), and the tags that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, {k: v or "" for k, v in attrs}, list[str]())
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element[2].append(data)

    def all(self, *tags: str) -> list[tuple[str, dict[str, str], str]]:
        return [(tag, attrs, "".join(text)) for tag, attrs, text in self.elements if tag in tags]


def no_shapes(_: ActivationInfo) -> Shape | None:
    return None


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    finals: dict[str, list[float | None]] = {
        "tanh": [*around(0.9, 6)],
        EVIL: [None, *around(0.93, 5)],
        "relu": [*around(0.85, 6)],
    }
    formulas = {EVIL: EVIL, "relu": "where(x > 0, x, 0)"}
    write_study(
        root,
        finals,
        formulas=formulas,
        seconds={"tanh": 1.0, EVIL: 1.2, "relu": 0.9},
        settings={"note": "</script><b>bold</b>", "learning_rate": 0.01},
    )
    add_snapshots(root, {"tanh": 0.9, EVIL: 0.8, "relu": 0.5}, saturated=0.8)
    add_stability(
        root,
        {
            "tanh": dict.fromkeys(((0.01, 0.0), (0.01, 1.0), (0.1, 0.0), (0.1, 1.0)), 0),
            EVIL: {(0.01, 0.0): 1, (0.01, 1.0): 0, (0.1, 0.0): 3, (0.1, 1.0): 3},
            "relu": {(0.01, 0.0): 0, (0.01, 1.0): 0, (0.1, 0.0): 0, (0.1, 1.0): 2},
        },
    )
    assert report.write(load(root), root) == root / "report.html"
    return root


@pytest.fixture(scope="module")
def text(written: Path) -> str:
    return (written / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(text: str) -> Page:
    return Page(text)


def specs(parsed: Page) -> dict[str, Any]:
    """Every chart's specification by its id."""
    scripts = parsed.all("script")
    return {a["id"]: json.loads(t) for _, a, t in scripts if a.get("type") == "application/json"}


# -------------------------------------------------------------------------------------- files


def test_every_figure_is_written_as_svg_and_png(written: Path) -> None:
    files = {p.name: p.read_bytes() for p in (written / "figures").iterdir()}
    assert set(files) == {f"{n}.{kind}" for n in FIGURES for kind in ("svg", "png")}
    for name, content in files.items():
        start = b"<svg" if name.endswith("svg") else b"\x89PNG\r\n\x1a\n"
        assert content.startswith(start), name
    assert not list(written.rglob("*.part"))


def test_summary_is_strict_json_and_says_the_same(written: Path) -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    summary = json.loads((written / "summary.json").read_text(), parse_constant=refuse)
    assert summary["schema"] == 1
    assert summary["verdict"] == verdict(load(written))
    assert [a["label"] for a in summary["activations"]] == ["tanh", EVIL, "relu"]
    assert [a["diverged"] for a in summary["activations"]] == [0, 1, 0]
    worse = summary["comparisons"][1]
    assert worse["gain"] == pytest.approx(-0.05)
    assert (worse["better_in"], worse["p"], worse["p_holm"]) == (0, 0.03125, 0.0625)
    assert worse["evidence"] == "unreachable"
    assert summary["cost"][1]["ratio"] == pytest.approx(0.9)


def test_what_is_not_finite_becomes_null() -> None:
    value = {"a": [math.nan, 1.5], "b": {"c": (math.inf, -math.inf, 2)}, "d": "nan"}
    assert finite(value) == {"a": [None, 1.5], "b": {"c": [None, None, 2]}, "d": "nan"}


def test_summary_is_reproducible(written: Path) -> None:
    again = load(written)
    assert summary_text(again) == (written / "summary.json").read_text()


# ------------------------------------------------------------------------------------ offline


def test_nothing_is_loaded_from_anywhere(parsed: Page) -> None:
    assert not parsed.all("link", "img", "iframe", "object", "embed", "audio", "video", "source")
    for tag, attrs, _ in parsed.all(*{t for t, _, _ in parsed.elements}):
        assert "src" not in attrs, tag
        assert "style" not in attrs or "url(" not in attrs["style"], tag
        if "href" in attrs:
            assert re.match(r"#|figures/\w+\.(svg|png)$|summary\.json$", attrs["href"]), attrs
    (style,) = parsed.all("style")
    assert "url(" not in style[2]
    assert "@import" not in style[2]


def test_links_lead_to_something(parsed: Page, written: Path) -> None:
    ids = {
        attrs["id"]
        for _, attrs, _ in parsed.all(*{t for t, _, _ in parsed.elements})
        if "id" in attrs
    }
    for _, attrs, _ in parsed.all("a"):
        target = attrs["href"]
        assert target[1:] in ids if target.startswith("#") else (written / target).is_file()


def test_the_policy_names_the_scripts_and_forbids_the_rest(parsed: Page) -> None:
    policy = next(a["content"] for _, a, _ in parsed.all("meta") if "http-equiv" in a)
    code = [t for _, a, t in parsed.all("script") if "type" not in a]
    assert len(code) == 2
    for script in code:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy
    assert "http" not in policy


def test_the_bundle_is_there_once(text: str) -> None:
    assert text.count("window.vegaEmbed=") == 1
    assert len(text.encode()) < 2_000_000


# ------------------------------------------------------------------------------------ escaping


def test_labels_and_formulas_cannot_become_markup(text: str, parsed: Page) -> None:
    assert EVIL not in text
    assert "<b>bold</b>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not parsed.open
    assert any(EVIL in t for _, _, t in parsed.all("th"))
    rows = [r for d in specs(parsed)["final_metric-0"]["datasets"].values() for r in d]
    assert EVIL in {r.get("label") for r in rows}


# -------------------------------------------------------------------------------- accessibility


def test_every_chart_has_a_name_a_sentence_and_a_table(parsed: Page) -> None:
    drawn = [a for _, a, _ in parsed.all("div") if "data-spec" in a]
    assert {a["data-spec"] for a in drawn} == set(specs(parsed))
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in drawn)
    captions = [t.strip() for _, _, t in parsed.all("figcaption")]
    assert len(captions) == len(FIGURES)
    assert all(len(c) > 40 and c.endswith(".") for c in captions)
    details = parsed.all("details")
    assert len(details) == len(FIGURES)
    tables = parsed.all("table")
    assert len(tables) == len(FIGURES) + 1
    assert len(parsed.all("caption")) == len(tables)


def test_tables_have_scoped_headers_and_full_rows(text: str) -> None:
    for table in re.findall(r"<table.*?</table>", text.split("<footer")[0], re.S):
        columns = table.count('<th scope="col">')
        body = re.findall(r"<tr.*?</tr>", table.split("<tbody>")[1], re.S)
        assert body
        for row in body:
            assert row.count('<th scope="row">') == 1
            assert row.count("<td") == columns - 1


def test_headings_descend_one_level_at_a_time(parsed: Page) -> None:
    levels = [int(tag[1]) for tag, _, _ in parsed.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_the_page_has_its_landmarks(parsed: Page) -> None:
    assert parsed.all("html")[0][1]["lang"] == "en"
    assert parsed.all("a")[0][1] == {"class": "skip", "href": "#main"}
    counts = Counter(tag for tag, _, _ in parsed.elements)
    assert counts["main"] == counts["header"] == counts["footer"] == counts["title"] == 1
    ids = [a["id"] for _, a, _ in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_verdict_comes_first_and_whole(parsed: Page, written: Path) -> None:
    first = parsed.all("section")[0]
    assert first[1]["class"] == "answer"
    whole = parsed.all("main")[0][2]
    assert all(sentence in whole for sentence in verdict(load(written)))


def test_looks_differ_without_colour() -> None:
    """Up to 40 activations no two share both dash and shape, let alone the colour as well."""
    assert len({(look(i).dash, look(i).shape) for i in range(40)}) == 40
    assert len({look(i).colour for i in range(7)}) == 7


# -------------------------------------------------------------------------------------- charts


def test_charts_take_the_width_of_their_container(parsed: Page) -> None:
    found = specs(parsed)
    assert {name.rsplit("-", 1)[0] for name in found} == FIGURES
    for name, spec in found.items():
        assert spec["width"] == "container", name
        assert "$schema" not in spec
        assert "layer" in spec


def test_the_page_shows_the_numbers_of_the_study(parsed: Page) -> None:
    rows = [r for d in specs(parsed)["final_metric-0"]["datasets"].values() for r in d]
    dots = {(r["label"], r["seed"]): r["value"] for r in rows if "seed" in r}
    assert dots["relu", 0] == pytest.approx(around(0.85, 6)[0])
    assert dots[EVIL, 0] == 0.1
    assert [r["diverged"] for r in rows if r.get("label") == EVIL and r.get("seed") == 0] == [True]


def test_the_close_up_is_closer(parsed: Page) -> None:
    def width(name: str) -> float:
        dots = next(
            layer for layer in specs(parsed)[name]["layer"] if "yOffset" in layer["encoding"]
        )
        low, high = dots["encoding"]["x"]["scale"]["domain"]
        return float(high - low)

    assert width("final_metric-1") < 0.2 < width("final_metric-0")
    assert width("differences-1") < 20 < width("differences-0")


def test_line_labels_keep_their_distance() -> None:
    spread = charts.spread([10.0, 11.0, 12.0, 100.0], 16.0, 100.0)
    assert all(b - a >= 16.0 - 1e-9 for a, b in pairwise(spread))
    assert spread[0] >= 0
    assert spread[-1] <= 100.0
    crowded = charts.spread([50.0] * 30, 16.0, 100.0)
    assert crowded == sorted(crowded)
    assert min(crowded) >= -1e-9
    assert max(crowded) <= 100.0
    assert charts.spread([5.0], 16.0, 100.0) == [5.0]


@pytest.mark.parametrize(("low", "high"), [(0.13, 6.2), (1e-7, 1e3), (1e-300, 1e300), (2.0, 2.9)])
def test_log_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    ticks = charts.log_ticks(low, high)
    assert 1 <= len(ticks) <= 10
    assert all(low <= t <= high for t in ticks)
    assert all(f"{t:e}"[:8] in ("1.000000", "2.000000", "5.000000") for t in ticks)


@pytest.mark.parametrize("last", [1, 2, 3, 7, 20, 37, 100, 12345])
def test_epoch_ticks_are_few_whole_and_inside(last: int) -> None:
    ticks = charts.epoch_ticks(last)
    assert ticks[0] == 1 and len(ticks) <= 7
    assert ticks == sorted(set(ticks)) and ticks[-1] <= last
    assert all(isinstance(t, int) for t in ticks)


@pytest.mark.parametrize(("seeds", "clear"), [(3, False), (6, True)])
def test_only_an_interval_stays_clear_of_zero(tmp_path: Path, seeds: int, clear: bool) -> None:
    finals = {"tanh": around(0.9, seeds), "relu": around(0.5, seeds, 0.01)}
    write_study(tmp_path, finals, seconds={"tanh": 1.0, "relu": 2.0})
    results = load(tmp_path)
    made = {f.name: f for f in figures(results, dict.fromkeys(results.labels))}
    assert ("stays clear of zero for relu" in made["differences"].sentence) == clear
    assert ("None is within noise" in made["cost"].sentence) == clear
    for name in ("differences", "cost"):
        assert ("95% interval" in made[name].table.columns) == clear
        assert ("range" in made[name].table.columns) != clear


def test_the_summary_explains_its_short_heads(parsed: Page) -> None:
    heads = {t: a["title"] for _, a, t in parsed.all("abbr")}
    assert set(heads) == {"IQM", "solved"} and "95.0% or better" in heads["solved"]


def test_close_up_only_where_divergence_squeezes_the_rest() -> None:
    def dots(*values: float, bad: int = 0) -> list[dict[str, Any]]:
        return [{"value": v, "diverged": i < bad} for i, v in enumerate(values)]

    low, high = charts.close_up(dots(0.1, 0.9, 0.92, bad=1)) or (math.nan, math.nan)
    assert 0.89 < low < 0.9
    assert 0.92 < high < 0.93
    assert charts.close_up(dots(0.1, 0.9, 0.92)) is None
    assert charts.close_up(dots(0.8, 0.7, 0.92, bad=1)) is None
    assert charts.close_up(dots(0.1, 0.1, bad=2)) is None


# ------------------------------------------------------------------------------------ formulas


def test_shapes_come_from_the_formula_or_else_the_label() -> None:
    by_formula = shape_of(ActivationInfo("mine", "tanh(x)"))
    by_label = shape_of(ActivationInfo("tanh", "no formula at all"))
    assert by_formula is not None
    assert by_formula == by_label
    assert shape_of(ActivationInfo(EVIL, EVIL)) is None
    middle = by_formula.points[len(by_formula.points) // 2]
    assert middle == pytest.approx((0.0, 0.0, 1.0, 0.0))
    edge = math.atanh(math.sqrt(0.9))  # where 1 - tanh(x)^2 = 0.1
    assert by_formula.saturated[0] == pytest.approx((-math.inf, -edge))
    assert describe_saturation(by_formula) == "below −1.82 and above 1.82"


def test_mathematics_is_well_formed() -> None:
    from xml.etree import ElementTree

    from anygate.formulas import resolve

    for text in ("where(x < -1, -1, where(x > 1, 1, x))", "x*sigmoid(x)", "x/(1 + abs(x))"):
        math_ml = to_mathml(resolve(text).closed)
        tags = [e.tag.split("}")[1] for e in ElementTree.fromstring(math_ml).iter()]
        assert tags[0] == "math"
        assert ("mtable" in tags) == ("where" in text)
    assert to_mathml("not an expression") == ""


# ---------------------------------------------------------------------------------- odd studies


def _without_trials(root: Path, *, keep: int) -> StudyResults:
    write_study(root, {"tanh": [0.9, 0.8], "relu": [0.8, None]})
    for path in sorted((root / "trials").iterdir())[keep:]:
        path.unlink()
    return load(root)


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_an_unfinished_study_has_a_report(tmp_path: Path, keep: int) -> None:
    results = _without_trials(tmp_path, keep=keep)
    shapes = dict.fromkeys(results.labels)
    made = figures(results, shapes) if keep else []
    html = page.render(results, made, shapes)
    assert f"{keep} of 4 trials present" in html
    assert ("data-spec" in html) == bool(keep)
    names = {f.name for f in made}
    assert ("differences" in names) == (keep == 3)
    assert "cost" not in names


def test_runs_that_die_at_once_have_a_report(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [None, None], "relu": [None, None]})
    for path in (tmp_path / "trials").iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"epochs": []}))
    results = load(tmp_path)
    made = figures(results, dict.fromkeys(results.labels))
    assert {f.name for f in made} == {"final_metric", "differences"}
    html = page.render(results, made, dict.fromkeys(results.labels))
    assert "tanh: 2 of 2 runs diverged" in html


def test_one_activation_with_one_seed_has_a_report(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9]})
    report.write(load(tmp_path), tmp_path, shapes=no_shapes)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "tanh alone was trained on handwritten digits; its accuracy is 90.0% in its only" in html
    assert not (tmp_path / "figures" / "differences.svg").exists()


def test_reading_and_judging_import_no_chart_library() -> None:
    code = (
        "import sys, anygate.lab.findings.verdict, anygate.lab.report;"
        "import anygate.lab.study.store.results;"
        "sys.exit(bool({'altair', 'vl_convert', 'jinja2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
