import copy

import numpy as np
import pytest

from ddr_tf.evaluation.codes import active_units, consistency, measure_codes, retrieval
from ddr_tf.evaluation.held_out import Codes
from ddr_tf.evaluation.probes import MAX_ITERATIONS
from evaluation_examples import Labelled, puppets


def noise(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape)


def values_of(codes, sequences, iterations=MAX_ITERATIONS):
    measurements = measure_codes(codes, sequences, iterations)
    return {name: measurement.value for name, measurement in measurements.items()}


def oracle_codes(sequences, static, dynamic, seed=0):
    """Codes of all held-out sequences as functions of their labels and poses, with a little noise."""
    random = np.random.RandomState(seed)
    numbers = sequences.splits["held_out"][:120]
    pose = np.stack([random.permutation(16) for _ in numbers]).reshape(-1, 2, 8)
    attributes = np.stack([labels[numbers] for labels in sequences.static_labels.values()], axis=-1)
    place = random.uniform(size=(16, 2))[pose]
    owner = np.broadcast_to(np.eye(6)[attributes].reshape(len(numbers), 1, -1), (len(numbers), 2, 24))
    codes = {
        "labels": owner,
        "poses": np.eye(16)[pose].sum(axis=2),
        "place": place,
        "place and labels": np.concatenate([place, np.repeat(owner[:, :, None], 8, axis=2)], axis=-1),
        "noise": random.normal(size=(len(numbers), 2, 8, 2)),
    }

    def noisy(name):
        return codes[name] + random.normal(scale=0.01, size=codes[name].shape)

    return Codes(numbers, pose, pose, noisy(static), noisy(dynamic), 0.0)


def test_codes_that_are_the_labels_score_the_ceiling():
    found = values_of(oracle_codes(puppets(), "labels", "place"), puppets())
    assert found["static_consistency"] > 0.99
    assert found["dynamic_coherence"] > 0.99
    assert found["probe_dynamic_to_pose"] > 0.95
    assert abs(found["leakage_static_to_pose"]) < 0.1
    for attribute in puppets().static_labels:
        assert found[f"probe_static_to_{attribute}"] > 0.95
        assert abs(found[f"leakage_dynamic_to_{attribute}"]) < 0.2


def test_codes_that_leak_are_caught():
    found = values_of(oracle_codes(puppets(), "poses", "place and labels"), puppets())
    assert found["leakage_static_to_pose"] > 0.95
    assert found["static_consistency"] < 0.3
    assert found["dynamic_coherence"] < 0.5
    for attribute in puppets().static_labels:
        assert found[f"leakage_dynamic_to_{attribute}"] > 0.95
        assert abs(found[f"probe_static_to_{attribute}"]) < 0.25


def test_labels_of_frames_are_read_from_z_as_classes_or_numbers_and_missing_ones_left_out():
    sequences = Labelled()
    random = np.random.RandomState(0)
    frame = np.stack([random.permutation(20)[:16] for _ in range(20)]).reshape(20, 2, 8)
    numbers = sequences.splits["held_out"]
    dynamic = np.stack(
        [sequences.frame_labels[name].reshape(40, 20)[0][frame] for name in ("what", "how much")], axis=-1
    )
    static = random.normal(size=(20, 2, 3))
    sequences.frame_labels["how much"][::3] = np.nan
    codes = Codes(numbers, frame, frame, static, dynamic, 0.0)
    found = values_of(codes, sequences)
    assert found["probe_dynamic_to_what"] > 0.9
    assert found["probe_dynamic_to_how much"] > 0.9
    assert found["leakage_static_to_what"] < 0.5
    assert found["leakage_static_to_how much"] < 0.5
    means = np.eye(4)[sequences.frame_labels["what"].reshape(40, 20)[0][frame]].mean(axis=2)
    leaking = codes._replace(static=np.concatenate([static, 10 * means], axis=-1))
    assert values_of(leaking, sequences)["leakage_static_to_what"] > 0.8


def test_active_units_are_those_that_vary():
    assert active_units(noise(500, 6) * [1, 0.2, 0.05, 0, 3, 0.09]) == 3
    assert active_units(np.ones((5, 4))) == 0


def test_consistency_of_perfect_and_of_random_codes():
    assert consistency(np.repeat(noise(20, 1, 8), 3, axis=1)) == pytest.approx(1)
    assert abs(np.mean([consistency(noise(50, 2, 8, seed=seed)) for seed in range(20)])) < 0.03
    assert consistency(np.zeros((4, 2, 3))) == 0
    half = np.repeat(noise(4000, 1, 1), 2, axis=1) + noise(4000, 2, 1, seed=1)  # as much within as between
    assert consistency(half) == pytest.approx(0.5, abs=0.03)


def test_retrieval_counts_the_nearest_of_the_other_sets():
    random = np.random.RandomState(0)
    identity = random.normal(size=(200, 1, 5))
    assert retrieval(np.repeat(identity, 2, axis=1) + 0.01 * random.normal(size=(200, 2, 5))) == 1.0
    assert retrieval(random.normal(size=(200, 2, 5))) < 0.05
    line = np.array([[[0.0], [1.0]], [[0.9], [5.0]], [[5.1], [9.0]]])
    assert retrieval(line) == pytest.approx(1 / 3)


def test_consistency_does_not_depend_on_how_many_groups_there_are():
    random = np.random.RandomState(0)
    for groups in (4, 32):
        draws = [2 * random.normal(size=(groups, 1, 3)) + random.normal(size=(groups, 40, 3)) for _ in range(400)]
        assert np.mean([consistency(each) for each in draws]) == pytest.approx(0.8, abs=0.04)


@pytest.mark.slow
def test_a_label_called_pose_does_not_replace_the_shared_poses():
    sequences = copy.copy(puppets())
    frames = sequences.frame_counts.sum()
    sequences.frame_labels = {"pose": np.random.RandomState(0).randint(0, 3, frames)}
    codes = oracle_codes(sequences, "labels", "place")
    found = values_of(codes, sequences)
    assert found["probe_dynamic_to_pose"] > 0.95
    assert found["probe_dynamic_to_label_pose"] < 0.5
    assert {"leakage_static_to_pose", "leakage_static_to_label_pose"} <= found.keys()


def test_many_classes_are_read_by_no_probe():
    sequences = copy.copy(puppets())
    town = np.random.RandomState(0).randint(0, 30, sequences.num_sequences)
    sequences.static_labels = {"skin": sequences.static_labels["skin"], "town": town}
    codes = oracle_codes(puppets(), "labels", "place")
    assert "probe_static_to_town" in values_of(codes, sequences, iterations=2)
    sequences.label_names = {"town": [str(number) for number in range(30)]}
    assert "probe_static_to_town" not in values_of(codes, sequences, iterations=2)
