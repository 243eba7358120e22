"""The ONNX files, in onnxruntime, against the Keras model."""

import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from ddr_tf import export
from ddr_tf.model.ddr import DDR
from ddr_tf.serving.onnx import onnx_models
from tiny import SIZES

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")

SHAPE = (16, 32, 1)
random = np.random.RandomState(0)


def session(content):
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def answers(session, **inputs):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({}, 1e-5),
        pytest.param({"shortcuts": True}, 1e-5, marks=pytest.mark.slow),
        pytest.param({"dtype": "mixed_bfloat16"}, 2e-2, marks=pytest.mark.slow),
    ],
)
def test_it_agrees_with_the_keras_model(settings, tolerance):
    keras.utils.set_random_seed(0)
    model = DDR(SHAPE, **SIZES, **settings, initial_static_stddev=0.3)
    for variable in model.trainable_variables:  # so that everything depends on everything
        variable.assign(variable * 2)
    encode, decode = (session(proto.SerializeToString()) for proto in onnx_models(model).values())
    for batch, num_frames in ((1, 1), (3, 2), (2, 9)):
        frames = random.uniform(size=(batch, num_frames, *SHAPE)).astype(np.float32)
        found, wanted = answers(encode, frames=frames), model.encode(tf.constant(frames))
        assert len(found) == 4
        for name, value in found.items():
            np.testing.assert_allclose(value, wanted[name], atol=tolerance, rtol=tolerance)
        static, dynamic = random.normal(size=(batch, 4)), random.normal(size=(batch, num_frames, 2))
        static, dynamic = static.astype(np.float32), dynamic.astype(np.float32)
        decoded = answers(decode, static=static, dynamic=dynamic)["frames"]
        np.testing.assert_allclose(decoded, model.decode(static, dynamic), atol=tolerance)


def flags(run_dir, out):
    return ["--run_dir", str(run_dir), "--out", str(out), "--format", "onnx"]


def test_the_command_writes_both_and_the_card(tmp_path, run_dir, capsys):
    out = tmp_path / "web/puppets"
    for _ in range(2):  # the second takes the place of the first
        assert export.main(flags(run_dir, out)) == 0
    assert f"written: {out}" in capsys.readouterr().out
    names = ["decode.onnx", "encode.onnx", "model_card.json", "model_card.md"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert [path.name for path in tmp_path.iterdir()] == ["web"]
    encode, decode = (session((out / name).read_bytes()) for name in ("encode.onnx", "decode.onnx"))
    assert encode.get_inputs()[0].shape == ["B", "N", 16, 16, 3]
    assert [value.shape for value in decode.get_inputs()] == [["B", 4], ["B", "N", 2]]
    assert decode.get_outputs()[0].shape == ["B", "N", 16, 16, 3]
    assert json.loads((out / "model_card.json").read_text())["name"] == "puppets"
    frames = random.uniform(size=(1, 2, 16, 16, 3)).astype(np.float32)
    wanted = keras.models.load_model(run_dir / "model.keras")(frames)
    np.testing.assert_allclose(answers(encode, frames=frames)["dynamic_mean"], wanted["dynamic_mean"], atol=1e-5)


def test_what_it_cannot_do_is_one_line(tmp_path, run_dir, capsys, monkeypatch):
    assert export.main([*flags(run_dir, tmp_path / "out"), "--weights", "float16"]) == 2
    assert "--weights float16 is for --format saved_model only" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    assert export.main(flags(run_dir, tmp_path / "out")) == 2
    assert "pip install -e '.[onnx]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
