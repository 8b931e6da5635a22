"""The explorer page against the library: grammar, values, derivatives, a step of training.

Its script runs in V8 by itself (mini-racer); the page in a real browser where there is one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Browser, find
from drawn_formulas import formula
from test_parse import HOSTILE

import anygate
from anygate.explorer import page, script
from anygate.formulas import ACTIVATIONS, FormulaError, resolve
from anygate.formulas.primitives import PRIMITIVES

racer = pytest.importorskip("py_mini_racer", reason="mini-racer is not installed")
POINTS = [-40, -8, -3.5, -3, -2.5, -1, -0.75, -1e-3, 0, 1e-4, 0.3, 0.5, 1, 1.9, 2.5, 3, 4.2, 6, 30]

DRIVER = """
function ask(text, points) {
  try {
    const found = Formula.evaluate(Formula.resolve(text), Float64Array.from(points));
    return JSON.stringify(found.map((a) => Array.from(a, String)));
  } catch (error) {
    if (!(error instanceof Formula.FormulaError)) throw error;
    return JSON.stringify({ refused: error.message, position: error.position });
  }
}
function learn(text) {
  const { net, slots, x, y, rate, clip } = JSON.parse(text);
  for (const name in net) net[name] = Float64Array.from(net[name]);
  const found = {};
  for (const slot in slots) found[slot] = Formula.resolve(slots[slot]);
  const rows = x.map((a) => Float64Array.from(a));
  const { loss, grad, norms } = Network.gradients(net, found, rows, Float64Array.from(y));
  const norm = Network.adam(net, grad, {}, rate, clip);
  const plain = (o) => Object.fromEntries(Object.entries(o).map(([k, v]) => [k, Array.from(v)]));
  return JSON.stringify({ loss, norms: [...norms], norm, grad: plain(grad), net: plain(net) });
}
"""


@pytest.fixture(scope="module")
def engine() -> Any:
    """V8 with the page's tables, formulas and networks."""
    made = racer.MiniRacer()
    made.eval(script() + DRIVER + ";0")
    return made


def ask(engine: Any, text: str, points: list[float] = POINTS) -> list[np.ndarray] | str:
    """Values and slopes at the points, or the message of the refusal."""
    found = json.loads(engine.call("ask", text, points))
    if isinstance(found, dict):
        return str(found["refused"])
    return [np.array([float(v.replace("Infinity", "inf")) for v in line]) for line in found]


def test_every_primitive_is_known(engine: Any) -> None:
    known = set(json.loads(engine.eval("JSON.stringify(Formula.operations)")))
    assert set(PRIMITIVES) <= known


def expected(text: str, points: list[float]) -> tuple[np.ndarray, np.ndarray]:
    activation = resolve(text)
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    value = activation(x)
    value = value if isinstance(value, torch.Tensor) else torch.full_like(x, float(value))
    if not value.requires_grad:
        return value.numpy(), np.zeros(len(points))
    (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach().numpy(), slope.numpy()


def agree(text: str, ours: list[np.ndarray], points: list[float]) -> None:
    for found, wanted in zip(ours, expected(text, points), strict=True):
        # sums may be ordered otherwise: beside the largest value an error of 1e-12 is rounding
        scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12 * scale, err_msg=text)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_catalogue_has_the_same_values_and_slopes(engine: Any, name: str) -> None:
    found = ask(engine, name)
    assert not isinstance(found, str), found
    agree(name, found, POINTS)


SPELLINGS = (
    """
LeakyReLU; leaky_relu(k=1/4); leaky_relu(x, k=0.3)*2; z*sigmoid(z); x if x > 0 else 0.1*x; -x**2
where(-1 < x <= 1, x, 0); where((x > 0) & (x < 1) or not x < 3, x, 0); 2**x; x**-1.5*x**2
sqrt(x**2); (x**2)**1.5; x/x; x - x + 1; max(0, x, 2); clamp(x, -1, 0x10); 1_0*x; .5*x; 1.e0*x
x*(1 - 2*3)/4; hypot(x, 3); abs(x - 1); e**x + pi; maximum(x, x); x # a comment
""".strip()
    .replace("\n", "; ")
    .split("; ")
)


@pytest.mark.parametrize("text", SPELLINGS)
def test_the_grammar_is_pythons(engine: Any, text: str) -> None:
    found = ask(engine, text)
    assert not isinstance(found, str), found
    agree(text, found, POINTS)


def test_drawn_formulas_are_read_alike(engine: Any) -> None:
    """Accepted or refused alike; those with no huge numbers in them have the same values."""
    accepted = refused = 0
    for seed in range(100):
        text = formula(random.Random(seed), 8, harsh=False).replace("k", "0.75")
        found = ask(engine, text)
        try:
            resolve(text)
        except FormulaError as error:
            message = f"only Python refuses {text}: {error}"
        else:
            message = ""
        assert isinstance(found, str) == bool(message), message or f"only the page: {text} {found}"
        accepted, refused = accepted + (not message), refused + bool(message)
        if not message:
            small = [0.3, 1.7, -2.2]
            agree(text, list(np.array(ask(engine, text, small))), small)
    assert accepted > 40 and refused > 2


REFUSED_BY_RESOLVE = [
    name for name in HOSTILE if name not in ("none", "nested sums", "long decimals")
]


@pytest.mark.parametrize("name", REFUSED_BY_RESOLVE)
def test_refused_texts_are_refused(engine: Any, name: str) -> None:
    text = HOSTILE[name].replace("{marker}", "/nowhere").replace("{{", "{").replace("}}", "}")
    with pytest.raises(FormulaError):
        resolve(text)
    message = ask(engine, text)
    assert isinstance(message, str) and 0 < len(message) < 500


SLOTS = {
    "input_gate": "sigmoid",
    "forget_gate": "sigmoid",
    "candidate": "tanh",
    "output_gate": "sigmoid",
    "cell_output": "tanh",
}
STEPS = (
    {},
    {"candidate": "relu", "cell_output": "relu"},
    {"input_gate": "hard_sigmoid", "forget_gate": "hard_sigmoid", "output_gate": "hard_sigmoid"},
    {"candidate": "x*sigmoid(x)", "cell_output": "gelu"},
    {"forget_gate": "where(x > 0, 1 - exp(-x)/2, exp(x)/2)", "candidate": "asinh(x)"},
)


@pytest.mark.parametrize("changed", STEPS, ids=str)
def test_a_step_of_training_is_the_librarys(engine: Any, changed: dict[str, str]) -> None:
    """Loss, gradients, their norms by step and the weights after Adam, for one batch."""
    torch.manual_seed(0)
    T, B, inputs, H, rate, clip = 7, 3, 2, 5, 0.01, 0.1
    layer = anygate.LSTM(inputs, H, dtype=torch.float64, **changed)
    readout = torch.nn.Linear(H, 1, dtype=torch.float64)
    layer.bias_hh_l0.data.zero_()
    layer.bias_hh_l0.requires_grad_(False)  # the page has one bias
    x, y = torch.randn(T, B, inputs, dtype=torch.float64), torch.randn(B, dtype=torch.float64)
    parameters = {
        "W": layer.weight_ih_l0,
        "R": layer.weight_hh_l0,
        "b": layer.bias_ih_l0,
        "v": readout.weight,
        "a": readout.bias,
    }
    content = {
        "net": {k: p.detach().flatten().tolist() for k, p in parameters.items()},
        "slots": SLOTS | changed,
        "x": x.reshape(T, -1).tolist(),
        "y": y.tolist(),
        "rate": rate,
        "clip": clip,
    }
    found = json.loads(engine.call("learn", json.dumps(content)))
    with anygate.record(layer) as recording:
        loss = (readout(layer(x)[0][-1]).squeeze(-1) - y).square().mean()
        loss.backward()
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-12)
    for name, p in parameters.items():
        np.testing.assert_allclose(found["grad"][name], p.grad.flatten(), rtol=1e-9, atol=1e-14)
    arrays = recording.arrays()
    key = next(k for k in arrays if k.endswith("/grad_h"))
    np.testing.assert_allclose(found["norms"], np.ravel(arrays[key]), rtol=1e-5)
    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), clip)
    assert found["norm"] == pytest.approx(norm.item(), rel=1e-9)
    torch.optim.Adam(parameters.values(), lr=rate).step()
    for name, p in parameters.items():
        np.testing.assert_allclose(found["net"][name], p.detach().flatten(), rtol=1e-9)


def test_the_page_is_small_and_closed() -> None:
    text = page("answer.html")
    assert max(len(text.encode()), len(page().encode())) <= 60_000
    assert not re.search(r"https?://|//cdn|@import|<link|src=", text)
    code = re.search(r"<script>(.*)</script>", text, re.DOTALL)
    assert code
    digest = base64.b64encode(hashlib.sha256(code[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert not re.search(r"\beval\(|new Function|innerHTML|document\.write", code[1])


# ---- in a real browser --------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(
    find() is None, reason="no Chromium or Chrome on this machine; name one by CHROMIUM=..."
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, Path]]:
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    path.write_text(page(), encoding="utf-8")
    executable = find()
    assert executable
    with Browser(executable) as opened:
        yield opened, path


def text_of(window: Browser, name: str) -> str:
    return str(window.evaluate(f"document.getElementById('{name}').textContent"))


def type_into(window: Browser, name: str, text: str) -> None:
    window.evaluate(
        f"(e => {{ e.value = {json.dumps(text)}; e.dispatchEvent(new Event('input')); }})"
        f"(document.getElementById('{name}'))"
    )


@needs_browser
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_works_in_a_browser(browser: tuple[Browser, Path], width: int) -> None:
    """Nothing from the network or in the console, no sideways scrolling, formulas and training."""
    window, path = browser
    window.open(path, width=width)
    type_into(window, "formula", "x*sigmoid(x)")
    assert "f(0) = 0, slope there 0.5" in text_of(window, "facts")
    assert 'candidate="x*sigmoid(x)"' in text_of(window, "python")
    window.evaluate("document.getElementById('once').click()")
    assert text_of(window, "state").startswith("Update 1. A: loss ")
    type_into(window, "formula", "sigmoid(x")
    assert "^" in text_of(window, "error")
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    assert window.errors == [] and window.requests == [path.resolve().as_uri()]


@needs_browser
def test_a_link_holds_the_state_and_a_hostile_one_does_no_harm(
    browser: tuple[Browser, Path],
) -> None:
    window, path = browser
    window.open(path, width=1000)
    window.evaluate("document.querySelector('[data-preset=explodes]').click()")
    kept = window.evaluate("JSON.stringify(Page.state)")
    link = window.evaluate("location.hash")
    window.open(path, width=1000)
    window.evaluate(f"location.hash = {json.dumps(link)}; new Promise(r => setTimeout(r, 200))")
    assert window.evaluate("JSON.stringify(Page.state)") == kept
    assert json.loads(kept)["slots"]["candidate"] == "relu"
    hostile = (
        "#%",
        "#null",
        "#[]",
        '#{"slots":{"candidate":"<img src=x onerror=alert(1)>"}}',
        '#{"steps":1e99,"hidden":"NaN","slot":"__proto__","task":"constructor"}',
    )
    for text in hostile:
        window.evaluate(f"location.hash = {json.dumps(text)}; new Promise(r => setTimeout(r, 100))")
        state = json.loads(window.evaluate("JSON.stringify(Page.state)"))
        assert 2 <= state["steps"] <= 120 and state["slot"] in SLOTS
    assert window.evaluate("document.querySelectorAll('img').length") == 0
    assert window.errors == []


@needs_browser
def test_every_control_is_reached_by_keyboard(browser: tuple[Browser, Path]) -> None:
    window, path = browser
    window.open(path, width=1400)
    wanted = set(
        window.evaluate(
            "[...document.querySelectorAll('input[id],select,button[id]')].map(e => e.id)"
        )
    )
    seen: set[str] = set()
    for _ in range(60):
        window.press("Tab", 9)
        seen.add(window.evaluate("document.activeElement.id"))
    assert wanted <= seen
