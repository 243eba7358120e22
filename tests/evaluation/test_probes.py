import numpy as np
import pytest

from ddr_tf.evaluation.probes import as_classes, as_numbers, explained, left_out, probe, probe_presence


def noise(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape)


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


def test_numbers_are_explained_by_codes_that_hold_them():
    random = np.random.RandomState(0)
    codes, owner = random.normal(size=(400, 2)), np.arange(400) // 8
    curved = np.stack([np.sin(2 * codes[:, 0]), codes[:, 1] ** 2], axis=-1)
    assert explained(codes, codes[:, 0], owner) > 0.99
    assert explained(codes, curved, owner) > 0.8
    assert explained(codes, random.normal(size=400), owner) < 0.05


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
    classes = as_classes(labels)
    assert {name: values.tolist() for name, values in classes.items()} == {
        "few": [0, 1, 1],
        "unknown": [-1, 0, 1],
        "sparse": [0, -1, 1],
    }
    assert list(as_numbers(labels)) == ["many", "real"]


def test_labels_too_scarce_to_be_judged_are_left_out():
    random = np.random.RandomState(0)
    owner = np.repeat(np.arange(8), 10)
    labels = random.randint(0, 2, 80)
    codes = np.stack([labels + 0.1 * random.normal(size=80), random.normal(size=80)], axis=-1)
    assert probe(codes, np.zeros(80, int), owner) is None
    assert probe(codes, (owner == 3).astype(int), owner) is None
    assert probe(codes[:30], labels[:30], owner[:30]) is None
    scarce = np.where(owner == 3, 2, labels)  # a third class, of one identity
    assert probe(codes, scarce, owner) > 0.9
    assert probe(codes, np.where(random.uniform(size=80) < 0.3, -1, labels), owner) > 0.9
    assert explained(codes, np.full(80, 3.0), owner) is None
    assert explained(codes[:30], codes[:30, 0], owner[:30]) is None


def test_presence_is_read_of_several_things_at_once():
    random = np.random.RandomState(0)
    identities = np.arange(300) // 2
    present = random.randint(0, 2, (300, 3))
    told = present + 0.1 * noise(300, 3)
    assert probe_presence(told, present, identities) > 0.95
    half = np.concatenate([told[:, :1], noise(300, 2, seed=1)], axis=-1)  # of one thing everything, of two nothing
    assert probe_presence(half, present, identities) == pytest.approx(1 / 3, abs=0.12)
    assert probe_presence(told, np.zeros_like(present), identities) is None


def test_what_is_read_from_noise_is_nothing_however_many_things_there_are():
    random = np.random.RandomState(0)
    identities = np.arange(80) // 2
    read = [probe_presence(noise(80, 4, seed=seed), random.randint(0, 2, (80, 16)), identities) for seed in range(4)]
    assert np.mean(read) < 0.01


def test_what_a_linear_probe_reads_without_an_error_is_not_read_again(monkeypatch):
    from sklearn import model_selection

    tried, cross_val_predict = [], model_selection.cross_val_predict

    def recorded(pipeline, *arguments, **named):
        tried.append(type(pipeline[-1]).__name__)
        return cross_val_predict(pipeline, *arguments, **named)

    monkeypatch.setattr(model_selection, "cross_val_predict", recorded)
    identities = np.repeat(np.arange(40), 3)
    for labels, expected in ((identities % 2, 1), (identities // 2 % 2, 2)):
        tried.clear()
        codes = np.eye(2)[identities % 2] + noise(len(identities), 2, seed=1) * 0.01
        probe(codes, labels, identities)
        assert tried == ["LogisticRegression", "MLPClassifier"][:expected]


def test_classes_never_become_numbers_and_what_is_not_known_is_nan():
    town = np.r_[np.arange(25), -1, -1]
    assert as_classes({"town": town}) == {}
    assert as_numbers({"town": town}, classes=["town"]) == {}
    np.testing.assert_array_equal(as_numbers({"town": town})["town"], np.r_[np.arange(25), np.nan, np.nan])
    few = {"few": np.r_[np.arange(20), -1]}  # twenty classes, and "not known"
    assert (list(as_classes(few)), list(as_numbers(few))) == (["few"], [])
    angles = {"angle": np.arange(-10, 16)}  # where others are below 0, -1 is a number as they are
    assert as_classes(angles) == {}
    np.testing.assert_array_equal(as_numbers(angles)["angle"], np.arange(-10, 16))
    assert left_out({"town": town, "few": few["few"], "age": town}, ("town", "few")) == {"town": 25}


def test_what_never_varies_is_no_feat_to_read():
    random = np.random.RandomState(0)
    owner, values = np.repeat(np.arange(40), 5), random.normal(size=(200, 3))
    padded = np.concatenate([values, np.zeros((200, 3))], axis=1)
    codes = random.normal(size=(200, 4))
    assert explained(codes, padded, owner) == explained(codes, values, owner) < 0.05
