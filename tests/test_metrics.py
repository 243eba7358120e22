import sys

import numpy as np
import pytest

from ddr_tf.errors import UserError
from ddr_tf.metrics import active_units, consistency, coverage, probe


def noise(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape)


def test_active_units_are_those_that_vary():
    assert active_units(noise(500, 6) * [1, 0.2, 0.05, 0, 3, 0.09]) == 3
    assert active_units(np.ones((5, 4))) == 0


def test_consistency_of_perfect_and_of_random_codes():
    assert consistency(np.repeat(noise(20, 1, 8), 3, axis=1)) == pytest.approx(1)
    assert abs(np.mean([consistency(noise(50, 2, 8, seed=seed)) for seed in range(20)])) < 0.03
    assert consistency(np.zeros((4, 2, 3))) == 0
    half = np.repeat(noise(4000, 1, 1), 2, axis=1) + noise(4000, 2, 1, seed=1)  # as much within as between
    assert consistency(half) == pytest.approx(0.5, abs=0.03)


def test_coverage_is_the_entropy_over_its_most():
    assert coverage(np.arange(12).repeat(5), 12) == pytest.approx(1)
    assert coverage([3] * 9, 12) == 0
    assert coverage([0, 0, 1, 1], 4) == pytest.approx(0.5)


def test_probes_read_what_is_there_and_nothing_else():
    random = np.random.RandomState(0)
    identities = np.repeat(np.arange(60), 6)
    labels = random.randint(0, 4, 360)
    told = np.eye(4)[labels] + 0.05 * noise(360, 4)
    assert probe(told, labels, identities) > 0.98
    assert abs(probe(noise(360, 4, seed=1), labels, identities)) < 0.12
    circle = noise(360, 2, seed=2)
    inside = (np.linalg.norm(circle, axis=-1) < 1.18).astype(int)  # no line tells it
    assert probe(circle, inside, identities) > 0.8


def test_probes_are_judged_on_other_identities():
    identities = np.repeat(np.arange(60), 6)
    labels = np.random.RandomState(0).randint(0, 2, 60)[identities]  # of the identity
    codes = np.eye(60)[identities]  # tell the identity, and so the label of those that were seen
    assert probe(codes, labels, identities) < 0.2


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[eval\]'"):
        probe(noise(10, 2), np.arange(10) % 2, np.arange(10))
