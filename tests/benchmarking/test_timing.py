"""Readings in turns."""

import pytest

from ddr_tf.benchmarking import timing


def test_readings_are_taken_in_turns(monkeypatch):
    monkeypatch.setattr(timing, "MIN_SECONDS", 0)  # one call a reading
    calls = []
    timed = [timing.Timed(lambda name=name: calls.append(name)) for name in "ab"]
    assert calls == list("aabb")  # each twice, before the first reading
    calls.clear()
    timing.in_turns(timed, 3, "letters")
    assert calls == list("ababab")
    assert [len(one.readings) for one in timed] == [3, 3]
    assert timed[0].seconds == sorted(timed[0].readings)[1]


def test_what_is_quick_is_repeated(monkeypatch):
    monkeypatch.setattr(timing, "MIN_SECONDS", 1)
    monkeypatch.setattr(timing.Timed, "_seconds", lambda self: self._call() or 0.3)
    timed = timing.Timed(lambda: None)
    assert timed._repeats == pytest.approx(4)
