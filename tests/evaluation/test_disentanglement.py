import numpy as np
import pytest

from ddr_tf.evaluation import disentanglement
from ddr_tf.evaluation.disentanglement import (
    dci,
    disentanglement_and_completeness,
    measure_disentanglement,
    mutual_information_gap,
)
from ddr_tf.evaluation.held_out import Codes
from evaluation_examples import Labelled


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(disentanglement, "NUM_TREES", 10)


def labels(count=600, seed=0):
    random = np.random.RandomState(seed)
    return {
        "shape": random.randint(0, 3, count),
        "colour": random.randint(0, 4, count),
        "angle": random.uniform(size=count),
    }


def as_codes(values):
    return np.stack(list(values.values()), axis=-1).astype(float)


IDENTITIES = np.arange(600) // 6


def test_the_formulas_of_dci_on_known_importances():
    assert disentanglement_and_completeness(np.eye(3)) == pytest.approx((1, 1))
    assert disentanglement_and_completeness(np.ones((4, 3))) == pytest.approx((0, 0))
    # Two dimensions share each of two labels: each dimension is about one label, no label has one dimension.
    shared = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert disentanglement_and_completeness(shared) == pytest.approx((1, 0.5))
    assert disentanglement_and_completeness(shared.T) == pytest.approx((0.5, 1))
    # By weight: a row of one label and weight 3, and one of both and weight 1.
    uneven = np.array([[3.0, 0], [0.5, 0.5]])
    assert disentanglement_and_completeness(uneven)[0] == pytest.approx(0.75)
    assert disentanglement_and_completeness(np.zeros((2, 2))) == (0, 0)


def test_importances_a_rounding_below_zero_count_as_zero(monkeypatch):
    importances = iter([np.array([1.0, -2.5e-20, 0.0]), np.array([0.0, 1.0, -1e-20])])
    monkeypatch.setattr(disentanglement, "_predict", lambda *_: (next(importances), 0.5))
    known = {name: labels()[name] for name in ("shape", "colour")}
    assert dci(as_codes(labels()), known, IDENTITIES) == pytest.approx((1, 1, 0.5))


def test_one_dimension_for_each_label_scores_one():
    known = labels()
    scores = dci(as_codes(known), known, IDENTITIES)
    assert scores.disentanglement > 0.95
    assert scores.completeness > 0.95
    assert scores.informativeness > 0.95
    assert mutual_information_gap(as_codes(known), known) > 0.9


def test_a_rotation_keeps_the_information_and_loses_the_rest():
    known = labels()
    codes = as_codes(known)
    codes = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    rotation = np.linalg.qr(np.random.RandomState(1).normal(size=(3, 3)))[0]
    scores = dci(codes @ rotation, known, IDENTITIES)
    assert scores.disentanglement < 0.5
    assert scores.informativeness > 0.5
    assert mutual_information_gap(codes @ rotation, known) < 0.4


def test_noise_scores_none():
    codes = np.random.RandomState(2).normal(size=(600, 3))
    scores = dci(codes, labels(), IDENTITIES)
    assert scores.disentanglement < 0.1
    assert abs(scores.informativeness) < 0.3
    assert mutual_information_gap(codes, labels()) < 0.05


def test_two_dimensions_that_tell_the_same_have_no_gap():
    known = {name: values for name, values in labels().items() if name != "angle"}
    assert mutual_information_gap(as_codes(known), known) == pytest.approx(1, abs=0.02)
    assert mutual_information_gap(np.repeat(as_codes(known), 2, axis=1), known) == pytest.approx(0)


def test_codes_of_a_dataset_are_scored_against_all_labels_that_are_known_everywhere():
    sequences = Labelled()
    random = np.random.RandomState(0)
    frame = np.stack([random.permutation(20)[:16] for _ in range(20)]).reshape(20, 2, 8)
    numbers = sequences.splits["held_out"]
    who = sequences.static_labels["who"][numbers]
    rows = sequences.rows(numbers[:, None, None], frame)
    dynamic = np.stack([values[rows] for values in sequences.frame_labels.values()], axis=-1)
    codes = Codes(numbers, frame, frame, np.repeat(who[:, None, None], 2, axis=1), dynamic, 0.0)
    measured = measure_disentanglement(codes, sequences)
    assert set(measured) == {"dci_disentanglement", "dci_completeness", "dci_informativeness", "mig"}
    assert measured["dci_informativeness"].value > 0.9
    sequences.static_labels, sequences.frame_labels = {}, {"what": sequences.frame_labels["what"]}
    assert measure_disentanglement(codes, sequences) == {}
