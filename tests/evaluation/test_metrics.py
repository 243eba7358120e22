import sys

import numpy as np
import pytest

from ddr_tf.errors import UserError
from ddr_tf.evaluation import metrics
from ddr_tf.evaluation.metrics import active_units, consistency, coverage, probe


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


def test_retrieval_counts_the_nearest_of_the_other_sets():
    random = np.random.RandomState(0)
    identity = random.normal(size=(200, 1, 5))
    assert metrics.retrieval(np.repeat(identity, 2, axis=1) + 0.01 * random.normal(size=(200, 2, 5))) == 1.0
    assert metrics.retrieval(random.normal(size=(200, 2, 5))) < 0.05
    line = np.array([[[0.0], [1.0]], [[0.9], [5.0]], [[5.1], [9.0]]])
    assert metrics.retrieval(line) == pytest.approx(1 / 3)


def test_judged_is_the_fields_formulas():
    sure = np.eye(4)[[0, 1, 2, 3]]
    found = metrics.judged(sure, np.array([0, 1, 2, 2]))
    assert found["accuracy"] == 0.75
    assert found["entropy"] == pytest.approx(np.log(4))
    assert found["conditional_entropy"] == pytest.approx(0, abs=1e-9)
    assert found["inception_score"] == pytest.approx(4)
    unsure = metrics.judged(np.full((5, 4), 0.25), np.zeros(5, int))
    assert unsure["inception_score"] == pytest.approx(1)
    assert unsure["conditional_entropy"] == pytest.approx(np.log(4))


def test_numbers_are_explained_by_codes_that_hold_them():
    random = np.random.RandomState(0)
    codes, owner = random.normal(size=(400, 2)), np.arange(400) // 8
    curved = np.stack([np.sin(2 * codes[:, 0]), codes[:, 1] ** 2], axis=-1)
    assert metrics.explained(codes, codes[:, 0], owner) > 0.99
    assert metrics.explained(codes, curved, owner) > 0.8
    assert metrics.explained(codes, random.normal(size=400), owner) < 0.05


def test_labels_are_classes_or_numbers():
    labels = {
        "few": np.array([0, 1, 1], np.int32),
        "one": np.zeros(3, np.int32),
        "unknown": np.array([-1, 0, 1], np.int32),
        "many": np.arange(30, dtype=np.int32),
        "real": np.array([0.5, np.nan, 1.0]),
        "constant": np.ones(3),
    }
    labels["sparse"] = np.array([7, -1, 20180101])
    classes = metrics.as_classes(labels)
    assert {name: values.tolist() for name, values in classes.items()} == {
        "few": [0, 1, 1],
        "unknown": [-1, 0, 1],
        "sparse": [0, -1, 1],
    }
    assert list(metrics.as_numbers(labels)) == ["many", "real"]


def test_labels_too_scarce_to_be_judged_are_left_out():
    random = np.random.RandomState(0)
    owner = np.repeat(np.arange(8), 10)
    labels = random.randint(0, 2, 80)
    codes = np.stack([labels + 0.1 * random.normal(size=80), random.normal(size=80)], axis=-1)
    assert metrics.probe(codes, np.zeros(80, int), owner) is None
    assert metrics.probe(codes, (owner == 3).astype(int), owner) is None
    assert metrics.probe(codes[:30], labels[:30], owner[:30]) is None
    scarce = np.where(owner == 3, 2, labels)  # a third class, of one identity
    assert metrics.probe(codes, scarce, owner) > 0.9
    assert metrics.probe(codes, np.where(random.uniform(size=80) < 0.3, -1, labels), owner) > 0.9
    assert metrics.explained(codes, np.full(80, 3.0), owner) is None
    assert metrics.explained(codes[:30], codes[:30, 0], owner[:30]) is None


def test_consistency_does_not_depend_on_how_many_groups_there_are():
    random = np.random.RandomState(0)
    for groups in (4, 32):
        draws = [2 * random.normal(size=(groups, 1, 3)) + random.normal(size=(groups, 40, 3)) for _ in range(400)]
        assert np.mean([metrics.consistency(each) for each in draws]) == pytest.approx(0.8, abs=0.04)
