import json
import shutil

import keras
import numpy as np
import pytest

from conftest import RandomDataset
from ddr_tf import compare, evaluate, export
from ddr_tf.data.moving_mnist import MovingMNIST
from ddr_tf.data.puppets import Puppets
from ddr_tf.evaluation import frame_classifier, held_out, metrics, protocol
from ddr_tf.evaluation.frame_classifier import FrameClassifier
from ddr_tf.evaluation.held_out import Codes, draw_codes, draw_swaps
from ddr_tf.evaluation.protocol import (
    Figure,
    best_of,
    chance_of_accuracies,
    figures_of_codes,
    figures_of_prior,
    nearest,
    psnr,
    ssim,
    swap_accuracies,
    table,
)
from ddr_tf.evaluation.protocol import evaluate as figures_of
from ddr_tf.model.ddr import DDR


@pytest.fixture(scope="module")
def puppets():
    return Puppets(size=32, num_poses=12)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return DDR((32, 32, 3), static_dim=4, width=4, pair_width=4, dense_units=8)


@pytest.fixture
def few_codes(monkeypatch):
    """For speed: probes on few sequences, which is not enough for figures but for the names of figures."""
    monkeypatch.setattr(held_out, "MAX_SEQUENCES", 60)
    monkeypatch.setattr(held_out, "NUM_PAIRS", 8)
    monkeypatch.setattr(frame_classifier, "NUM_FRAMES", 100)
    monkeypatch.setattr(protocol, "BOUND_SAMPLES", 2)
    monkeypatch.setattr(metrics, "PROBE_ITERATIONS", 5)


def test_psnr_is_the_textbook_formula():
    truth = np.zeros((2, 4, 4, 3))
    assert psnr(truth + 0.1, truth) == pytest.approx([20.0, 20.0])


def test_nearest_finds_the_closest():
    candidates = np.random.RandomState(0).uniform(size=(9, 4, 4, 3)).astype(np.float32)
    assert nearest(candidates[[7, 2]] + 0.05, candidates).tolist() == [7, 2]


def test_swaps_are_of_held_out_sequences_with_the_truth_beside_them(model, puppets):
    swaps = draw_swaps(model, puppets, seed=0, num_frames=8)
    assert {*swaps.static_sequence, *swaps.dynamic_sequence} <= set(puppets.splits["held_out"])
    assert (swaps.static_sequence != swaps.dynamic_sequence).all()
    a, pose = swaps.static_sequence[3], swaps.frame[3, 2]
    np.testing.assert_allclose(swaps.truths[0][3, 2], puppets.render(a, puppets.poses[pose]) / 255, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in swaps.frame)


def test_an_oracle_scores_the_ceiling_and_copies_of_the_source_only_the_pose(model, puppets):
    swaps = draw_swaps(model, puppets, seed=0, num_frames=8)
    found = swap_accuracies(puppets, swaps, {"oracle": swaps.truths[0], "copy": swaps.source})
    assert set(found["oracle"].values()) == {1.0}
    copied = found["copy"]
    assert copied["identity"] < 0.1
    assert copied["skin"] < 0.5
    assert copied["pose"] > 0.9


def test_noise_scores_chance(model, puppets):
    swaps = draw_swaps(model, puppets, seed=0, num_frames=8)
    random = np.random.RandomState(0)
    truths = puppets.swap_truth(random.randint(0, 1296, 64), 0, random.randint(0, 12, 64))[:, None] / np.float32(255)
    found, chance = swap_accuracies(puppets, swaps, {"": truths})[""], chance_of_accuracies(puppets)
    assert chance["skin"] == pytest.approx(1 / 6) and chance["pose"] == pytest.approx(1 / 12)
    for name, value in chance.items():
        assert abs(found[name] - value) < 4 * (value * (1 - value) / 64) ** 0.5 + 0.02, name


@pytest.mark.slow
def test_figures_are_deterministic_and_have_their_levels(model, few_codes):
    puppets = Puppets(size=32, num_poses=16)
    first, second = (figures_of(model, puppets, seeds=(0,), frame_counts=(8,)) for _ in range(2))
    assert first == second
    assert {"reconstruction_psnr", "swap_psnr", "swap_relative_psnr", "swap_conditioned_psnr"} <= first.keys()
    assert {"swap_identity_accuracy", "swap_hair_accuracy", "swap_pose_accuracy"} <= first.keys()
    assert first["swap_pose_accuracy"].chance == pytest.approx(1 / 16)
    assert first["swap_pose_accuracy"].ceiling == 1.0
    assert first["swap_psnr"].chance > 5
    assert {
        "probe_dynamic_to_pose",
        "leakage_static_to_pose",
        "dynamic_coherence",
        "prior_pose_coverage",
    } <= first.keys()
    assert (first["leakage_dynamic_to_skin"].chance, first["leakage_dynamic_to_skin"].ceiling) == (0.0, 1.0)


def test_either_digit_may_follow_either_trajectory(drawn_data, few_codes):
    digits = MovingMNIST(str(drawn_data), num_train=40, num_held_out=80)
    first, second = np.array([[3], [4]]), np.array([[5], [6]])
    there, other = digits.swap_truths(first, second, np.arange(4)[None])
    np.testing.assert_array_equal(there, digits.swap_truth(first, second, np.arange(4)[None]))
    assert (there != other).any()
    truths = [there / 255, other / 255]
    assert best_of(psnr, truths[1], truths) == pytest.approx(120)  # no error at all, as `psnr` bounds it
    mixed = np.concatenate([truths[0][:1], truths[1][1:]])  # a pair each
    assert best_of(psnr, mixed, truths) == pytest.approx(120)
    alternating = np.concatenate([truths[0][:, :2], truths[1][:, 2:]], axis=1)  # within a pair: wrong
    assert best_of(psnr, alternating, truths) < 70
    model = DDR((64, 64, 1), static_dim=4, width=4, pair_width=4, dense_units=8)
    found = figures_of(model, digits, seeds=(0, 1))
    assert {
        "swap_psnr",
        "swap_ssim",
        "probe_static_to_digit_1",
        "leakage_dynamic_to_digit_2",
        "probe_dynamic_to_y_1",
    } <= found.keys()
    assert not {"swap_identity_accuracy", "dynamic_coherence", "leakage_static_to_pose"} & found.keys()


def test_without_true_frames_there_is_what_needs_none():
    model = DDR((16, 16, 1), static_dim=4, width=4, pair_width=4, dense_units=8)
    few = RandomDataset()
    assert set(figures_of(model, few, seeds=(0, 1))) == {"reconstruction_psnr", "reconstruction_ssim"}
    more = RandomDataset(frame_counts=(16,) * 8, held_out=6)
    found = figures_of(model, more, seeds=(0, 1))
    assert {"elbo_nats_per_frame", "static_consistency", "order_dependence", "active_units_static"} <= found.keys()
    assert found["order_dependence"].value < 1e-5
    assert found["importance_weighted_gain_nats_per_frame"].value > 0
    parts = [found[f"{name}_nats_per_frame"].value for name in ("elbo", "kl_static", "kl_dynamic")]
    assert parts[0] < -parts[1] - parts[2]


def values(measured):
    return {name: each.value for name, each in measured.items()}


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

    bound = dict.fromkeys(("elbo", "reconstruction_excess", "kl_static", "kl_dynamic"), 0.0)
    return Codes(numbers, pose, pose, noisy(static), noisy(dynamic), 0.0, bound)


def test_codes_that_are_the_labels_score_the_ceiling(puppets):
    found = values(figures_of_codes(oracle_codes(puppets, "labels", "place"), puppets))
    assert found["static_consistency"] > 0.99
    assert found["dynamic_coherence"] > 0.99
    assert found["probe_dynamic_to_pose"] > 0.95
    assert abs(found["leakage_static_to_pose"]) < 0.1
    for attribute in puppets.static_labels:
        assert found[f"probe_static_to_{attribute}"] > 0.95
        assert abs(found[f"leakage_dynamic_to_{attribute}"]) < 0.2


def test_codes_that_leak_are_caught(puppets):
    found = values(figures_of_codes(oracle_codes(puppets, "poses", "place and labels"), puppets))
    assert found["leakage_static_to_pose"] > 0.95
    assert found["static_consistency"] < 0.3
    assert found["dynamic_coherence"] < 0.5
    for attribute in puppets.static_labels:
        assert found[f"leakage_dynamic_to_{attribute}"] > 0.95
        assert abs(found[f"probe_static_to_{attribute}"]) < 0.25


def test_codes_of_a_model_are_of_disjoint_sets_of_the_same_poses(model):
    puppets = Puppets(size=32, num_poses=20)
    codes = draw_codes(model, puppets, seed=0, num_frames=8)
    assert codes.static.shape == (296, 2, 4)
    assert codes.dynamic.shape == (296, 2, 8, 2)
    assert all(len(set(row)) == 16 for row in codes.frame.reshape(296, 16))
    assert len(np.unique(codes.frame)) == 16
    for number in range(16):
        assert len(np.unique(codes.frame[codes.pose == number])) == 1
    encoded = model.encode(puppets.swap_truth(codes.sequence[5], 0, codes.frame[5, 1])[None])
    np.testing.assert_allclose(codes.static[5, 1], encoded["static_mean"][0], atol=1e-5)
    np.testing.assert_allclose(codes.dynamic[5, 1], encoded["dynamic_mean"][0], atol=1e-5)
    assert 0 <= figures_of_prior(model, puppets, seed=0, num_frames=8)["prior_pose_coverage"].value <= 1


class Labelled(RandomDataset):
    """Frames that show labels: the left half is as bright as that of the sequence, the right half as the frame's."""

    def __init__(self):
        super().__init__(frame_counts=(20,) * 40, held_out=20)
        self.static_labels = {"who": np.arange(40, dtype=np.int32) % 3}
        self.frame_labels = {"what": np.arange(800, dtype=np.int32) % 4, "how much": np.arange(800) % 20 / 20}
        what = self.frame_labels["what"].reshape(40, 20)
        self.bank[..., :8, :] = 60 * self.static_labels["who"][:, None, None, None, None]
        self.bank[..., 8:, :] = 60 * what[..., None, None, None]


def test_a_judge_of_real_frames_knows_them_and_what_is_generated_by_an_oracle(monkeypatch):
    monkeypatch.setattr(frame_classifier, "NUM_FRAMES", 1000)
    sequences = Labelled()
    seen = FrameClassifier(sequences, seed=0)
    assert (seen.static_labels, seen.frame_labels) == (["who"], ["what"])
    sequence, frame = np.array([39, 20, 31]), np.array([7, 0, 2])
    found = seen(sequences.frames(sequence, frame).numpy() / np.float32(255))
    for label, right in {"who": [0, 2, 1], "what": [3, 0, 2]}.items():
        assert list(seen.truth(sequence, frame)[label]) == right
        assert list(found[label].argmax(axis=1)) == right
    assert FrameClassifier(RandomDataset(), seed=0).labels == []


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
    codes = Codes(numbers, frame, frame, static, dynamic, 0.0, {})
    found = values(figures_of_codes(codes, sequences))
    assert found["probe_dynamic_to_what"] > 0.9
    assert found["probe_dynamic_to_how much"] > 0.9
    assert found["leakage_static_to_what"] < 0.5
    assert found["leakage_static_to_how much"] < 0.5
    means = np.eye(4)[sequences.frame_labels["what"].reshape(40, 20)[0][frame]].mean(axis=2)
    leaking = codes._replace(static=np.concatenate([static, 10 * means], axis=-1))
    assert values(figures_of_codes(leaking, sequences))["leakage_static_to_what"] > 0.8


def test_ssim_of_equal_frames_is_one_and_of_noise_is_near_none():
    frames = np.random.RandomState(0).uniform(size=(2, 3, 16, 16, 3))
    np.testing.assert_allclose(ssim(frames, frames), np.ones((2, 3)))
    assert np.abs(ssim(frames, frames[::-1])).max() < 0.2


def test_the_commands_write_evaluation_json_and_a_comparison(tmp_path, run_dir, capsys, few_codes):
    runs = [str(shutil.copytree(run_dir, tmp_path / name)) for name in ("first", "second")]
    assert evaluate.main(["--run_dir", runs[0], "--seeds", "2", "--num_frames", "8", "2"]) == 0
    written = json.loads((tmp_path / "first/evaluation.json").read_text())
    assert all(set(figure) == {"value", "standard_error", "chance", "ceiling"} for figure in written.values())
    assert {"swap_psnr", "swap_psnr_with_2_frames", "parameters", "training_peak_memory_mb"} <= written.keys()
    assert written["training_minutes"]["standard_error"] is None
    assert "swap_pose_accuracy" in capsys.readouterr().out
    assert list((tmp_path / "first/logs/evaluation").iterdir())

    out = tmp_path / "comparison"
    assert compare.main([*runs, "--out", str(out), "--seeds", "2", "--num_frames", "8"]) == 0
    printed = capsys.readouterr()
    assert "first: is evaluated" in printed.err and "second: is evaluated" in printed.err
    assert out.with_suffix(".md").read_text() == printed.out
    assert printed.out.splitlines()[0].replace("|", "").split() == ["figure", "first", "second", "chance", "ceiling"]
    of_first = json.loads(out.with_suffix(".json").read_text())["first"]
    assert of_first == {name: figure for name, figure in written.items() if "_with_2_" not in name}
    assert compare.main([*runs, "--seeds", "2", "--num_frames", "8"]) == 0
    assert capsys.readouterr().err == "first: was evaluated before\nsecond: was evaluated before\n"

    record = json.loads((tmp_path / "first/run.json").read_text())
    (tmp_path / "first/run.json").write_text(json.dumps(record | {"data": "of another set"}))
    assert evaluate.main(["--run_dir", runs[0], "--seeds", "2"]) == 2
    assert "The data have changed since" in capsys.readouterr().err
    (tmp_path / "first/evaluation.json").write_text("[]")
    assert compare.main([*runs, "--seeds", "2", "--num_frames", "8"]) == 2
    assert "first/evaluation.json cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_an_exported_model_is_measured_as_its_run(tmp_path, run_dir, few_codes):
    run_dir, exported = shutil.copytree(run_dir, tmp_path / "run"), tmp_path / "exported"
    assert export.main(["--run_dir", str(run_dir), "--out", str(exported)]) == 0
    for what in (["--run_dir", str(run_dir)], ["--saved_model", str(exported)]):
        assert evaluate.main([*what, "--seeds", "2", "--num_frames", "8"]) == 0
    of_run, of_exported = (
        json.loads((folder / "evaluation.json").read_text()) for folder in (run_dir, exported / "1/assets.extra")
    )
    for name in (
        "elbo_nats_per_frame",
        "importance_weighted_bound_nats_per_frame",
        "swap_conditioned_psnr",
        "swap_psnr",
    ):
        assert of_exported[name]["value"] == pytest.approx(of_run[name]["value"], rel=1e-4), name


def test_tables_have_figures_as_rows_and_runs_as_columns():
    runs = {
        "a": {"psnr": Figure(20.0, 0.25, 10.0), "psnr_with_2_frames": Figure(18.0), "parameters": Figure(1_234_567)},
        "b": {"psnr": Figure(21.5, 0.5, 12.0), "other": Figure(0.0, 0.0, 0.0, 1.0)},
    }
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(runs, ("p*", "other")).splitlines()]
    assert rows[0] == ["figure", "a", "b", "chance", "ceiling"]
    assert rows[2:] == [
        ["psnr", "20.000 ± 0.250", "21.500 ± 0.500", "10.000 to 12.000", ""],
        ["parameters", "1,234,567", "", "", ""],
        ["other", "", "0.000 ± 0.000", "0.000", "1.000"],
    ]
    assert "psnr_with_2_frames" in table(runs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere holds no finished run"),
        (["nowhere", "--seeds", "1"], "--seeds must be at least 2"),
        (["nowhere", "--num_frames", "0"], "--num_frames must be at least 1, got 0"),
        (["nowhere", "--out", "no/such/folder"], "there is no folder no/such"),
    ],
)
def test_wrong_flags_of_a_comparison_are_refused(arguments, message, capsys):
    assert compare.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_a_finished_run_is_refused(tmp_path, capsys):
    assert evaluate.main(["--run_dir", str(tmp_path)]) == 2
    assert "holds no finished run" in capsys.readouterr().err
