import dataclasses
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.data import sprites
from ddr_tf.data.characters import attribute_values
from ddr_tf.data.puppets import Puppets
from ddr_tf.errors import UserError
from ddr_tf.evaluation import any_model
from ddr_tf.evaluation.any_model import evaluate_model
from evaluation_examples import FEW, puppets

SETTINGS = dataclasses.replace(FEW, num_seeds=1, probe_iterations=50)


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


def codes(x):
    return np.zeros((len(x), 3)), np.zeros((*x.shape[:2], 2))


def black(f, z):
    return np.zeros((*z.shape[:2], 32, 32, 3))


@pytest.mark.parametrize(
    ("encode", "decode", "message"),
    [
        (lambda x: x, black, "encode must return two arrays"),
        (
            lambda x: (np.zeros((len(x), 3)), np.zeros((len(x), 3))),
            black,
            "encode must return f .B, F. and z .B, N, Z.",
        ),
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


def nan_beside(array):
    array.flat[0] = np.nan
    return array


class WithGradient:
    """As much of a PyTorch tensor that needs gradients as NumPy sees."""

    shape = (1,)

    def __array__(self, *args, **kwargs):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda f, z: None, "two arrays, f .B, F. and z .B, N, Z.; it returned None."),
        (lambda f, z: (nan_beside(f), z), "finite numbers; 1 of 24 of f are NaN or infinite"),
        (lambda f, z: (f, nan_beside(z)), "finite numbers; 1 of 128 of z are NaN or infinite"),
        (lambda f, z: ([[1, 2], [3]], z), "two arrays.*; it returned a list of 2 "),
        (lambda f, z: (1j * f, z), "two arrays.*; it returned something of type ndarray and shape .8, 3. .complex num"),
        (lambda f, z: (WithGradient(), z), "two arrays.*WithGradient.*; return x.detach...cpu...numpy.. of a tensor x"),
        (lambda f, z: (f[:, :0], z), "f .B, F. .* none of them empty, .*; for .* it returned .8, 0. and .8, 8, 2."),
        (lambda f, z: (f, z[..., :0]), "f .B, F. .* none of them empty, .*; for .* it returned .8, 3. and .8, 8, 0."),
    ],
)
def test_what_encode_returns_is_checked(changed, message):
    with pytest.raises(UserError, match=f"^encode must return {message}") as error:
        evaluate_model(lambda x: changed(*codes(x)), black, puppets(), SETTINGS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda x: None, "frames .B, N, H, W, C. as one array, here .8, 8, 32, 32, 3.; it returned None"),
        (lambda x: (x, 1), "frames .*; it returned a tuple of 2 "),
        (lambda x: WithGradient(), "frames .*; return x.detach...cpu...numpy.. of a tensor x"),
        (lambda x: x[..., :1], "frames .*; it returned .8, 8, 32, 32, 1.[.]$"),
        (lambda x: x[..., :16, :], "frames .*; it returned .8, 8, 32, 16, 3.[.]$"),
        (lambda x: np.moveaxis(x, -1, 2), "frames .*; it returned .8, 8, 3, 32, 32.; move the channels to the end"),
        (nan_beside, "finite numbers; 1 of 196,608 of frames are NaN or infinite"),
    ],
)
def test_what_decode_returns_is_checked(changed, message):
    with pytest.raises(UserError, match=f"^decode must return {message}") as error:
        evaluate_model(codes, lambda f, z: changed(black(f, z)), puppets(), SETTINGS)
    assert "\n" not in str(error.value)


def test_codes_keep_their_dimensions():
    sizes = iter((3, 3, 4))

    def encode(x):
        return np.zeros((len(x), next(sizes))), codes(x)[1]

    with pytest.raises(UserError, match=r"the same F and Z each time; they were \(3, 2\) and are \(4, 2\)"):
        evaluate_model(encode, black, puppets(), SETTINGS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((codes, black, Puppets), "sequences must be a dataset, .* got the class Puppets; call it"),
        ((codes, black, np.zeros((2, 8, 32, 32, 3))), "sequences must be a dataset, .* got something of type ndarray"),
        ((codes, black, "my_frames"), "sequences must be a dataset, .* got something of type str"),
        ((None, black, puppets()), "encode must be a function, got None"),
        ((codes, black, puppets(), {"num_seeds": 2}), "settings must be ddr_tf.evaluation.Settings"),
    ],
)
def test_arguments_of_another_kind_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        evaluate_model(*given)


def test_functions_may_change_their_arguments_and_reuse_their_results():
    static, dynamic, frames = np.zeros((1, 3), np.float32), np.zeros((1, 2, 2), np.float32), np.ones((1, 2, 4, 4, 3))

    def encode(x):
        x *= 0
        static[:], dynamic[:] = static + 1, dynamic + 1
        return static, dynamic

    def decode(f, z):
        f *= 0
        z *= 0
        return frames

    model, given = any_model._NumPyModel(encode, decode, (4, 4, 3)), tf.ones((1, 2, 4, 4, 3))
    first, second = model.encode(given), model.encode(given)
    decoded = model.decode(first["static_mean"], first["dynamic_mean"])
    frames *= 0
    assert (given.numpy() == 1).all()
    assert (decoded == 1).all()
    for name in ("static_mean", "dynamic_mean"):
        assert (first[name] == 1).all()
        assert (second[name] == 2).all()


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


@pytest.mark.slow
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
