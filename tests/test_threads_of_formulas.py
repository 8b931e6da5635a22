"""Formulas are read and evaluated in several threads at once, and in the user's own precision."""

from __future__ import annotations

import math
import sys
import threading

import mpmath
import pytest

from anygate.formulas import Activation, FormulaError, resolve, sheet


def test_precision_does_not_leak_between_threads() -> None:
    """Six threads that read, evaluate and survey, switched as often as can be: the results of one
    alone, and mpmath's own precision as the user left it."""
    wrong: list[object] = []
    alone = {k: Activation("f", f"tanh(x/{k} + atan(2))").value(0.3) for k in range(3, 9)}

    def work(k: int) -> None:
        for round_ in range(12):
            try:
                value = Activation(f"f{round_}", f"tanh(x/{k} + atan(2))").value(0.3)
                low = sheet(f"x*sigmoid(x/{k})").low.value if round_ == 0 else -0.27846454276 * k
            except FormulaError as error:
                wrong.append(error)
                return
            if value != alone[k] or abs(low + 0.27846454276 * k) > 1e-8:
                wrong.append((k, value, low))

    before, interval = mpmath.mp.prec, sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(k,)) for k in alone]
        for thread in threads:
            thread.start()
        seen = set()
        while any(t.is_alive() for t in threads):
            seen.add(mpmath.mp.prec)
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    assert seen <= {before}
    assert mpmath.mp.prec == before


def test_precise_is_in_the_precision_of_the_user() -> None:
    with mpmath.mp.workdps(50):
        found = resolve("tanh").precise(mpmath.mpf(1))
        assert abs(found - mpmath.tanh(1)) < mpmath.mpf("1e-49")
    assert type(found) is mpmath.mpf
    assert resolve("tanh").value(1.0) == pytest.approx(math.tanh(1.0), rel=1e-15)
