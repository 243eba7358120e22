import dataclasses
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from ddr_tf.data import sprites
from ddr_tf.data.characters import attribute_values
from ddr_tf.errors import UserError
from ddr_tf.evaluation import any_model
from ddr_tf.evaluation.any_model import evaluate_model
from evaluation_examples import FEW, puppets

SETTINGS = dataclasses.replace(FEW, num_seeds=2, probe_iterations=50)


class Oracle:
    """Codes that are the true factors: it looks frames up, and decodes by looking up again."""

    def __init__(self, sequences):
        held_out = sequences.splits["held_out"]
        owner, pose = np.meshgrid(held_out, np.arange(sequences.frame_counts[0]), indexing="ij")
        self.frames = sequences.swap_truth(owner, owner, pose)
        self.place = {
            frame.tobytes(): (o, p) for o, p, frame in zip(owner.flat, pose.flat, _flat(self.frames), strict=True)
        }
        self.sequences = sequences

    def encode(self, frames):
        found = [self.place[np.round(frame * 255).astype(np.uint8).tobytes()] for frame in _flat(frames)]
        owner, pose = np.reshape(found, (*frames.shape[:2], 2)).transpose(2, 0, 1)
        static = np.eye(6)[attribute_values(owner[:, 0])].reshape(len(owner), 24)
        return static, self.sequences.poses[pose]

    def decode(self, static, dynamic):
        values = static.reshape(len(static), 4, 6).argmax(axis=-1)
        owner = values @ [216, 36, 6, 1]
        pose = np.linalg.norm(dynamic[:, :, None] - self.sequences.poses, axis=-1).argmin(axis=-1)
        owner = np.broadcast_to(owner[:, None], pose.shape)
        return self.sequences.swap_truth(owner, owner, pose) / 255


def _flat(frames):
    return frames.reshape(-1, *frames.shape[-3:])


def test_the_true_factors_score_the_ceiling():
    sequences = puppets(num_poses=20)
    oracle = Oracle(sequences)
    metrics = evaluate_model(oracle.encode, oracle.decode, sequences, SETTINGS)
    for name in ("swap_identity_accuracy", "swap_skin_accuracy", "swap_pose_accuracy", "static_retrieval_accuracy"):
        assert metrics[name].value == 1.0, name
    assert metrics["swap_psnr"].value == pytest.approx(120)
    assert metrics["dynamic_coherence"].value == pytest.approx(1)
    assert metrics["order_dependence"].value == 0
    assert metrics["dci_informativeness"].value > 0.8
    assert metrics["probe_static_to_hair"].value > 0.9
    assert not {"elbo_nats_per_frame", "prior_pose_coverage", "swap_relative_psnr"} & metrics.keys()


@pytest.mark.parametrize(
    ("encode", "decode", "message"),
    [
        (lambda x: x, None, "encode must return two arrays"),
        (lambda x: (np.zeros((len(x), 3)), np.zeros((len(x), 3))), None, "encode must return f .B, F. and z .B, N, Z."),
        (
            lambda x: (np.zeros((len(x), 3)), np.zeros((*x.shape[:2], 2))),
            lambda f, z: np.zeros((len(f), 8)),
            "decode must return frames",
        ),
        (
            lambda x: (np.zeros((len(x), 3)), np.zeros((*x.shape[:2], 2))),
            lambda f, z: np.full((*z.shape[:2], 32, 32, 3), 200.0),
            "decode must return frames in .0, 1.; it returned 200 to 200",
        ),
    ],
)
def test_functions_that_return_something_else_are_refused(encode, decode, message):
    with pytest.raises(UserError, match=message):
        evaluate_model(encode, decode, puppets(), SETTINGS)


class FakeTensor:
    """As much of a PyTorch tensor as the page uses."""

    def __init__(self, array):
        self.array = array

    def permute(self, *axes):
        return FakeTensor(self.array.transpose(axes))

    def numpy(self):
        return self.array


class FakeModel:
    """Codes of nothing, and black frames with the channels first, as PyTorch has them."""

    def eval(self):
        return self

    def encode(self, frames):
        batch, num_frames, channels, *_ = frames.array.shape
        assert channels == 3
        noise = np.random.RandomState(0).normal(size=(batch, num_frames + 2, 2))
        return FakeTensor(noise[:, 0]), FakeTensor(noise[:, 2:])

    def decode(self, static, dynamic):
        return FakeTensor(np.zeros((*dynamic.array.shape[:2], 3, 32, 32)))


def test_the_example_of_the_page(monkeypatch, capsys):
    torch = types.ModuleType("torch")
    torch.from_numpy, torch.no_grad = FakeTensor, lambda: lambda function: function
    torch.load = lambda path, weights_only: FakeModel()
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(sprites, "Sprites", lambda data_dir: puppets())
    monkeypatch.setattr(any_model, "Settings", lambda: SETTINGS)
    page = (Path(__file__).parents[2] / "docs/any_model.md").read_text()
    exec(re.search(r"<!-- any model -->\n```python\n(.*?)```", page, re.DOTALL)[1], {})
    assert "Are swaps the true frames?" in capsys.readouterr().out
