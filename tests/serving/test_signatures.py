"""The SavedModel, as others load it, against the Keras model."""

import io
import pickle
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ddr_tf.model.ddr import DDR
from ddr_tf.model.networks import CHUNK
from ddr_tf.serving.exporting import write_saved_model
from tiny import SIZES

SHAPE = (16, 32, 1)
random = np.random.RandomState(0)
FRAMES = random.uniform(size=(2, CHUNK + 3, *SHAPE)).astype(np.float32)  # several chunks, the last one not whole
STATIC = random.normal(size=(2, 4)).astype(np.float32)
DYNAMIC = random.normal(size=(2, 5, 2)).astype(np.float32)
SEED = dict(count=np.int32(3), frames_per_sequence=np.int32(2), seed=np.array([4, 5], np.int32))


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


BYTES = np.round(FRAMES[:1, :2] * 255).astype(np.uint8)
FILES = np.array([[encoded(image[..., 0]) for image in BYTES[0]]], dtype=object)

REQUESTS = {
    "serving_default": dict(frames=FRAMES),
    "encode": dict(frames=FRAMES),
    "encode_bytes": dict(encoded_frames=FILES),
    "encode_dynamic": dict(frames=FRAMES, static=STATIC),
    "decode": dict(static=STATIC, dynamic=DYNAMIC),
    "reconstruct": dict(frames=FRAMES),
    "swap": dict(static_frames=FRAMES[:, :2], dynamic_frames=FRAMES[:, 2:]),
    "prior": dict(static=STATIC),
    "sample": SEED,
    "sample_standard": SEED,
}

WITH_NAN = FRAMES.copy()
WITH_NAN[1, 2, 3, 4] = np.nan
# signature, inputs, what the error says
WRONG = [
    ("encode", dict(frames=FRAMES[0]), r"frames must have the shape \[B >= 1, N >= 1, H = 16, W = 32, C = 1\]; got"),
    ("encode", dict(frames=FRAMES.swapaxes(2, 3)), r"frames must have the shape .* \[2 35 32 16 1\]"),
    ("encode", dict(frames=FRAMES[:, :0]), r"frames must have the shape .* \[2 0 16 32 1\]"),
    ("encode", dict(frames=FRAMES * 255), r"frames must be in \[0, 1\], without NaN"),
    ("reconstruct", dict(frames=FRAMES - 0.1), r"frames must be in \[0, 1\], without NaN"),
    ("reconstruct", dict(frames=WITH_NAN), r"frames must be in \[0, 1\], without NaN.* \[1\]"),
    ("swap", dict(static_frames=FRAMES, dynamic_frames=FRAMES[:1]), r"static_frames and dynamic_frames .* \[2\] \[1\]"),
    ("encode_dynamic", dict(frames=FRAMES, static=STATIC[:1]), r"static and frames must be of equally many"),
    (
        "decode",
        dict(static=STATIC[:, :3], dynamic=DYNAMIC),
        r"static must have the shape \[B >= 1, F = 4\]; got\] \[2 3\]",
    ),
    ("decode", dict(static=STATIC, dynamic=DYNAMIC * np.nan), r"dynamic must be finite, without NaN"),
    ("prior", dict(static=STATIC * np.inf), r"static must be finite, without NaN"),
    ("sample", SEED | dict(count=np.int32(0)), r"count must be at least 1; got\] \[0\]"),
    ("sample", SEED | dict(frames_per_sequence=np.int32(-1)), r"frames_per_sequence must be at least 1; got\] \[-1\]"),
    ("encode_bytes", dict(encoded_frames=FILES[0]), r"encoded_frames must have the shape"),
    ("encode_bytes", dict(encoded_frames=np.array([[b"hello"]], object)), r"encoded_frames must be PNG or JPEG files"),
    (
        "encode_bytes",
        dict(encoded_frames=np.array([[FILES[0, 0][:60]]], object)),
        r"(?=.*Invalid PNG data).*encoded_frames/",
    ),
    (
        "encode_bytes",
        dict(encoded_frames=np.array([[encoded(BYTES[0, 0, :8, :, 0])]], object)),
        r"every image of encoded_frames must have the shape .* \[8 32\]",
    ),
    (  # its header is enough to refuse it
        "encode_bytes",
        dict(encoded_frames=np.array([[encoded(np.zeros((4_000, 6_000), np.uint8))]], object)),
        r"every image of encoded_frames must have the shape .* \[4000 6000\]",
    ),
    (
        "encode_bytes",
        dict(encoded_frames=np.array([[encoded(BYTES[0, 0, :8, :, 0], "JPEG")]], object)),
        r"every image of encoded_frames must have the shape .* \[8 32\]",
    ),
]


def expected(model, signature):
    """What the Keras model itself says."""
    inputs = {
        name: value if value.dtype == object else tf.constant(value) for name, value in REQUESTS[signature].items()
    }
    if signature in ("encode", "serving_default", "encode_bytes"):
        frames = BYTES if signature == "encode_bytes" else inputs["frames"]
        return {k: v for k, v in model.encode(tf.constant(frames)).items() if not k.startswith("prior")}
    if signature == "encode_dynamic":
        posterior = model.dynamic_posterior(model.features(inputs["frames"]), inputs["static"])
        return {"dynamic_mean": posterior.mean(), "dynamic_stddev": posterior.stddev()}
    if signature == "decode":
        return {"frames": model.decode(**inputs)}
    if signature == "reconstruct":
        return {"frames": model(inputs["frames"])["reconstruction"]}
    if signature == "swap":
        static = model.encode(inputs["static_frames"])["static_mean"]
        dynamic = model.dynamic_posterior(model.features(inputs["dynamic_frames"]), static).mean()
        return {"frames": model.decode(static, dynamic)}
    prior = model.dynamic_prior(inputs["static"])
    return {"mean": prior.mean()[:, 0], "stddev": prior.stddev()[:, 0]}


def on_two_devices():
    """A model whose variables are as training on two devices leaves them."""
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = DDR(SHAPE, **SIZES)
        for variable in model.trainable_variables:
            variable.assign(variable * 1.1)
    return model


@pytest.fixture(scope="module")
def models():
    keras.utils.set_random_seed(0)
    return {
        "float32": DDR(SHAPE, **SIZES),
        "two devices": on_two_devices(),
        "bfloat16": DDR(SHAPE, **SIZES, dtype="mixed_bfloat16"),
        "shortcuts": DDR(SHAPE, **SIZES, shortcuts=True),
    }


@pytest.fixture(scope="module")
def written(models, tmp_path_factory):
    """name of a model -> its SavedModel."""
    folders = {name: tmp_path_factory.mktemp("saved_model") for name in models}
    for name, model in models.items():
        write_saved_model(model, folders[name])
    return folders


@pytest.fixture(scope="module")
def answers(written, tmp_path_factory):
    """Of all loaders, from one process: (model, signature) -> loader -> outputs; and errors likewise, for `WRONG`."""
    keys = [("float32", signature) for signature in REQUESTS]
    keys += [(model, signature) for model in written if model != "float32" for signature in ("encode", "decode")]
    asked = [(str(written[model]), signature, REQUESTS[signature]) for model, signature in keys]
    asked += [(str(written["float32"]), signature, inputs) for signature, inputs, _ in WRONG]
    folder = tmp_path_factory.mktemp("answers")
    (folder / "requests").write_bytes(pickle.dumps(asked))
    program = Path(__file__).parents[1] / "other_loaders.py"
    command = [sys.executable, program, folder / "requests", folder / "answers"]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    found = pickle.loads((folder / "answers").read_bytes())
    return dict(zip([*keys, *range(len(WRONG))], found, strict=True))


@pytest.mark.parametrize("name", ["float32", "two devices", "bfloat16", "shortcuts"])
def test_every_loader_agrees_with_the_keras_model(models, answers, name):
    tolerance = 2e-2 if name == "bfloat16" else 1e-5
    for signature in (asked for model, asked in (key for key in answers if isinstance(key, tuple)) if model == name):
        wanted = None if signature.startswith("sample") else expected(models[name], signature)
        for loader, found in answers[name, signature].items():
            assert isinstance(found, dict), (signature, loader, found)
            if wanted is None:
                continue
            assert found.keys() == wanted.keys()
            for output, value in wanted.items():
                np.testing.assert_allclose(
                    found[output], value, rtol=tolerance, atol=tolerance, err_msg=f"{loader} {signature} {output}"
                )
    assert len(answers[name, "encode"]) == 3


def test_samples_are_of_the_prior_and_a_function_of_the_seed(models, written, answers):
    found = list(answers["float32", "sample"].values())
    for name, shape in dict(static=(3, 4), dynamic=(3, 2, 2), frames=(3, 2, *SHAPE)).items():
        assert found[0][name].shape == shape
        np.testing.assert_allclose(found[1][name], found[0][name], atol=1e-5)
        np.testing.assert_allclose(found[2][name], found[0][name], atol=1e-5)
    np.testing.assert_allclose(
        models["float32"].decode(found[0]["static"], found[0]["dynamic"]), found[0]["frames"], atol=1e-5
    )
    sample = tf.saved_model.load(str(written["float32"])).signatures["sample"]
    many = sample(count=tf.constant(1000), frames_per_sequence=tf.constant(1), seed=tf.constant([6, 7]))
    assert np.abs(np.mean(many["static"], axis=0)).max() < 4 / 1000**0.5
    assert np.std(many["static"]) == pytest.approx(1, abs=0.05)
    prior = models["float32"].dynamic_prior(many["static"])
    standard = ((many["dynamic"] - prior.mean()) / prior.stddev()).numpy()
    assert np.abs(standard.mean()) < 4 / 2000**0.5
    assert standard.std() == pytest.approx(1, abs=0.06)
    other = sample(count=tf.constant(3), frames_per_sequence=tf.constant(2), seed=tf.constant([4, 6]))
    assert np.abs(other["static"] - found[0]["static"]).max() > 0.1


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_input_gets_an_error_that_names_it(answers, number):
    signature, inputs, words = WRONG[number]
    for loader, found in answers[number].items():
        assert isinstance(found, str), (loader, signature)
        text = " ".join(found.split())
        if loader == "TensorFlow 1" and "Cannot feed value of shape" in text:  # it compares with the signature itself
            assert f"{signature}_{next(iter(inputs))}:0" in text
            continue
        assert re.search(words, text), (loader, text)


def test_saved_model_cli(models, written, tmp_path):
    np.savez(tmp_path / "inputs.npz", frames=FRAMES)
    code = (
        "import sys; sys.modules['ddr_tf'] = None; from tensorflow.python.tools import saved_model_cli as c; c.main()"
    )
    flags = ["run", "--dir", written["float32"], "--tag_set", "serve", "--signature_def", "encode"]
    flags += ["--inputs", f"frames={tmp_path / 'inputs.npz'}[frames]", "--outdir", tmp_path]
    process = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    for name, value in expected(models["float32"], "encode").items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), value, atol=1e-5)


def test_signatures_are_of_any_number_of_sequences_and_frames(written):
    signatures = tf.saved_model.load(str(written["float32"])).signatures
    assert set(signatures) == set(REQUESTS)
    frames = signatures["serving_default"].structured_input_signature[1]["frames"]
    assert frames.shape.as_list() == [None, None, *SHAPE]
    assert signatures["encode"].structured_outputs["dynamic_mean"].shape.as_list() == [None, None, 2]
    assert signatures["decode"].structured_outputs["frames"].shape.as_list() == [None, None, *SHAPE]
    assert signatures["swap"](static_frames=FRAMES[:, :1], dynamic_frames=FRAMES[:, :7])["frames"].shape == (
        2,
        7,
        *SHAPE,
    )


def test_colour_files_become_grey_and_jpeg_is_read(written):
    encode_bytes = tf.saved_model.load(str(written["float32"])).signatures["encode_bytes"]
    colour = np.repeat(BYTES[0, 0], 3, axis=-1)
    files = [encoded(colour), encoded(colour, "JPEG"), encoded(BYTES[0, 0, ..., 0], "JPEG"), FILES[0, 0]]
    found = encode_bytes(encoded_frames=tf.constant([[file] for file in files]))["dynamic_mean"].numpy()
    np.testing.assert_allclose(found[0], found[3], atol=1e-2)
    np.testing.assert_allclose(found[1], found[3], atol=0.2)
