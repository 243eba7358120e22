"""`ddr_tf.load`, on a run and on its export."""

import copy
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

import ddr_tf
from conftest import draw_image
from ddr_tf import export
from ddr_tf.errors import UserError
from ddr_tf.images import FrameFormat, read_frame

FRAMES = np.random.RandomState(0).randint(0, 256, (3, 5, 16, 16, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_dir):
    """A folder with runs/quickstart, saved_models/puppets and my_frames."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "runs").symlink_to(run_dir.parent)
    assert export.main(["--run_dir", str(run_dir), "--out", str(folder / "saved_models/puppets")]) == 0
    for name in ("anna", "bob"):
        for number, suffix in ((1, "jpg"), (9, "png"), (10, "webp")):
            draw_image(folder / f"my_frames/{name}/{number}.{suffix}", number, size=(30, 20 + number))
    (folder / "my_frames/anna/notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def keras_model(folder):
    return keras.models.load_model(folder / "runs/quickstart/model.keras")


@pytest.fixture(scope="module", params=["runs/quickstart", "saved_models/puppets"])
def model(request, folder):
    return ddr_tf.load(folder / request.param)


def read_image(path):
    with Image.open(path) as image:
        return image.copy()


def test_it_agrees_with_the_keras_model(model, keras_model):
    assert model.frame_shape == (16, 16, 3)
    codes, wanted = model.encode(FRAMES), keras_model(FRAMES)
    for name, value in codes._asdict().items():
        assert isinstance(value, np.ndarray)
        np.testing.assert_allclose(value, wanted[name], atol=1e-5)
    np.testing.assert_allclose(model.decode(codes.static_mean, codes.dynamic_mean), wanted["reconstruction"], atol=1e-5)
    np.testing.assert_allclose(model.reconstruct(FRAMES), wanted["reconstruction"], atol=1e-5)
    np.testing.assert_allclose(model.swap(FRAMES, FRAMES), wanted["reconstruction"], atol=1e-5)
    assert model.swap(FRAMES[:, :2], FRAMES[:, 1:]).shape == (3, 4, 16, 16, 3)


def test_one_sequence_is_a_batch_of_one_without_it(model):
    codes, one = model.encode(FRAMES), model.encode(FRAMES[1])
    for name, value in one._asdict().items():
        np.testing.assert_allclose(value, getattr(codes, name)[1], atol=1e-5)
    assert model.decode(one.static_mean, one.dynamic_mean).shape == (5, 16, 16, 3)
    assert model.reconstruct(FRAMES[1]).shape == (5, 16, 16, 3)
    assert model.swap(FRAMES[0], FRAMES[1, :2]).shape == (2, 16, 16, 3)
    as_float = model.encode(FRAMES[1] / 255)
    np.testing.assert_allclose(as_float.dynamic_mean, one.dynamic_mean, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Not used.*notes.txt")
def test_folders_files_and_images_become_frames_as_in_training(model, folder):
    names = ["1.jpg", "9.png", "10.webp"]  # in natural order
    paths = [folder / "my_frames/anna" / name for name in names]
    wanted = model.encode(np.stack([read_frame(path, FrameFormat((16, 16))).pixels for path in paths]))
    images = [read_image(path) for path in paths]
    given = [folder / "my_frames/anna", str(folder / "my_frames/anna"), paths, [str(path) for path in paths]]
    for frames in (*given, [images[0], paths[1], images[2]]):
        np.testing.assert_allclose(model.encode(frames).dynamic_mean, wanted.dynamic_mean, atol=0.05)
    for frames in given:
        np.testing.assert_array_equal(model.encode(frames).dynamic_mean, model.encode(paths).dynamic_mean)


def test_samples_are_a_function_of_the_seed(model):
    first, again, other = (model.sample(3, 2, seed) for seed in (7, 7, 8))
    assert (first.static.shape, first.dynamic.shape, first.frames.shape) == ((3, 4), (3, 2, 2), (3, 2, 16, 16, 3))
    np.testing.assert_array_equal(first.frames, again.frames)
    assert np.abs(first.static - other.static).max() > 0.01
    np.testing.assert_allclose(model.decode(first.static, first.dynamic), first.frames, atol=1e-5)


def test_one_of_f_or_z_serves_many_of_the_other(model):
    random = np.random.RandomState(0)
    static, dynamic = random.normal(size=(3, 4)), random.normal(size=(3, 5, 2))
    for f, z, shape in (
        (static[0], dynamic[0, 0], (16, 16, 3)),
        (static[0], dynamic[0], (5, 16, 16, 3)),
        (static[0], dynamic, (3, 5, 16, 16, 3)),
        (static, dynamic[0, 0], (3, 16, 16, 3)),
        (static, dynamic[0], (3, 5, 16, 16, 3)),
        (static[:1], dynamic[0], (1, 5, 16, 16, 3)),
    ):
        frames = model.decode(f, z)
        assert frames.shape == shape
    np.testing.assert_allclose(model.decode(static, dynamic[1])[2], model.decode(static[2], dynamic[1]), atol=1e-6)
    np.testing.assert_allclose(model.decode(static[1], dynamic)[2], model.decode(static[1], dynamic[2]), atol=1e-6)
    with pytest.raises(UserError, match="static and dynamic must be of equally many"):
        model.decode(static, dynamic[:2])


def test_priors_and_codes_of_frames_given_any_f(model, keras_model):
    codes = model.encode(FRAMES)
    prior = model.prior(codes.static_mean)
    wanted = keras_model.dynamic_prior(codes.static_mean)
    np.testing.assert_allclose(prior.mean, wanted.mean()[:, 0], atol=1e-5)
    np.testing.assert_allclose(prior.stddev, wanted.stddev()[:, 0], atol=1e-5)
    assert model.prior(codes.static_mean[0]).mean.shape == (2,)
    dynamic = model.encode_dynamic(FRAMES, codes.static_mean)
    np.testing.assert_allclose(dynamic.mean, codes.dynamic_mean, atol=1e-5)
    np.testing.assert_allclose(dynamic.stddev, codes.dynamic_stddev, atol=1e-5)
    one = model.encode_dynamic(FRAMES[0], codes.static_mean[1])
    assert one.mean.shape == (5, 2)
    np.testing.assert_allclose(model.encode_dynamic(FRAMES, codes.static_mean[1]).mean[0], one.mean, atol=1e-5)
    assert model.encode_dynamic(FRAMES[0], codes.static_mean).mean.shape == (3, 5, 2)


def test_a_version_is_loaded_by_its_folder(folder):
    version, newest = (ddr_tf.load(folder / f"saved_models/{path}") for path in ("puppets/1", "puppets"))
    assert (version.name, version.frame_shape) == (newest.name, newest.frame_shape)
    np.testing.assert_array_equal(version.encode(FRAMES).dynamic_mean, newest.encode(FRAMES).dynamic_mean)


def test_it_can_be_pickled_and_copied(model):
    codes = model.encode(FRAMES)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.encode(FRAMES).static_mean, codes.static_mean)


def test_it_says_what_it_is(model):
    assert repr(model) == f"<LoadedModel {model.name}: frames 16 x 16 x 3, f of 4 and z of 2 numbers>"
    assert model.name in ("quickstart", "puppets")
    assert (model.static_dim, model.dynamic_dim) == (4, 2)
    assert model.sample().frames.shape == (1, 8, 16, 16, 3)


def test_folders_become_tables(model, folder, tmp_path):
    root = folder / "my_frames"
    with pytest.warns(UserWarning, match=r"Not used: .*anna/notes\.txt \(not an image by name") as warned:
        codes = model.encode_folder(root)
    assert [warning.filename for warning in warned] == [__file__]
    assert codes.ids == ["anna", "bob"]
    assert codes.frame_ids == ["anna"] * 3 + ["bob"] * 3
    assert codes.files == ["1.jpg", "9.png", "10.webp"] * 2
    with pytest.warns(UserWarning, match=r"Not used: .*anna/notes\.txt") as warned:
        wanted = model.encode([root / "anna", root / "bob"])
    assert [warning.filename for warning in warned] == [__file__]
    np.testing.assert_allclose(codes.static_mean, wanted.static_mean, atol=1e-5)
    np.testing.assert_allclose(codes.static_stddev, wanted.static_stddev, atol=1e-5)
    np.testing.assert_allclose(codes.dynamic_mean, wanted.dynamic_mean.reshape(6, 2), atol=1e-5)
    np.testing.assert_allclose(codes.dynamic_stddev, wanted.dynamic_stddev.reshape(6, 2), atol=1e-5)
    pages = [Image.fromarray(frame) for frame in FRAMES[0]]
    pages[0].save(tmp_path / "all.tiff", save_all=True, append_images=pages[1:])
    codes = model.encode_folder(tmp_path)
    assert codes.ids == [tmp_path.name]
    assert codes.files == [f"all.tiff#{number}" for number in range(1, 6)]
    np.testing.assert_allclose(codes.dynamic_mean, model.encode(FRAMES[0]).dynamic_mean, atol=1e-5)
    with pytest.raises(UserError, match="There is no folder"):
        model.encode_folder(tmp_path / "nowhere")


def test_a_range_of_values_can_be_given(folder, tmp_path):
    Image.fromarray(np.full((16, 16), 4095, np.uint16)).save(tmp_path / "a.png")
    given = ddr_tf.load(folder / "saved_models/puppets", value_range=(0, 4095)).encode(tmp_path)
    model = ddr_tf.load(folder / "saved_models/puppets")
    np.testing.assert_allclose(given.static_mean, model.encode(np.ones((16, 16, 3))).static_mean, atol=1e-5)
    with pytest.warns(UserWarning, match=r"load the model with value_range=\(0, 4095\)"):
        model.encode(tmp_path)


@pytest.mark.filterwarnings("ignore:Not used.*notes.txt")
def test_the_line_for_pandas_is_right(folder):
    pandas = pytest.importorskip("pandas")
    codes = ddr_tf.load(folder / "saved_models/puppets").encode_folder(folder / "my_frames")
    f = pandas.DataFrame(codes.static_mean, index=codes.ids)
    z = pandas.DataFrame(codes.dynamic_mean, index=[codes.frame_ids, codes.files])
    assert (f.shape, z.shape) == ((2, 4), (6, 2))
    assert tuple(z.loc[("bob", "9.png")]) == tuple(codes.dynamic_mean[4])


def test_records_are_refused_where_one_of_their_arrays_is_wanted(model):
    codes = model.encode(FRAMES[0])
    static, dynamic, prior = codes.static_mean, codes.dynamic_mean, model.prior(codes.static_mean)
    posterior = model.encode_dynamic(FRAMES[0], static)
    for call, words in (
        (lambda: model.decode(static, prior), r"dynamic must be an array; got Normal, .*: pass \.mean\."),
        (lambda: model.decode(static, posterior), r"dynamic must be .* got Normal, .*: pass \.mean\."),
        (lambda: model.decode(static, [prior]), r"dynamic must be .* got Normal, .*: pass \.mean\."),
        (lambda: model.decode(static, codes), r"dynamic must be .* got Encoded, .*: pass \.dynamic_mean\."),
        (lambda: model.decode(codes, codes), r"static must be .* got Encoded, .*: pass \.static_mean\."),
        (lambda: model.decode(prior, dynamic), r"static must be .* got Normal, .*: pass \.mean\."),
        (lambda: model.prior(codes), r"pass \.static_mean\."),
        (lambda: model.prior(model.sample()), r"got Samples, .*: pass \.static\."),
        (lambda: model.encode_dynamic(FRAMES[0], codes), r"pass \.static_mean\."),
        (lambda: model.encode(model.sample()), r"frames must be .* got Samples, .*: pass \.frames\."),
        (lambda: model.swap(codes, codes), "frames must be an array; got Encoded"),
    ):
        with pytest.raises(UserError, match=words):
            call()


def test_wrong_input_is_one_line_that_says_what(model, folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "empty").mkdir()
    wrong = [
        (lambda: model.encode(FRAMES[0, 0, 0]), r"shape \[16, 16, 3\], \[N, 16, 16, 3\] or .* got \[16, 3\]"),
        (lambda: model.encode(FRAMES[0, ..., :2]), r"shape \[16, 16, 3\], .* got \[5, 16, 16, 2\]"),
        (lambda: model.encode(FRAMES[..., :2]), r"frames must have the shape \[B >= 1, .* got 3 5 16 16 2"),
        (lambda: model.encode(FRAMES * 1.0), r"frames of floats must be in \[0, 1\]; yours are from 0 to 255: divide"),
        (lambda: model.swap(FRAMES[0], FRAMES), "static_frames and dynamic_frames must be of equally many"),
        (lambda: model.decode(np.zeros(5), np.zeros((1, 2))), r"static must have the shape \[F = 4\] or \[B, F = 4\]"),
        (lambda: model.decode(np.zeros(4), np.zeros(3)), r"dynamic must have the shape \[Z = 2\] or .* got \[3\]"),
        (lambda: model.decode("f", np.zeros(2)), "static must be numbers"),
        (lambda: model.decode(np.zeros(4) + 1j, np.zeros(2)), "static must be numbers of the shape .* got a ndarray"),
        (
            lambda: model.decode([[1, 2], [3]], [[0, 0]]),
            r"static must be numbers of the shape \[F = 4\] or .* got a list",
        ),
        (lambda: model.prior([[1, 2], [3]]), "static must be numbers of the shape"),
        (lambda: model.decode(np.zeros(4), [[0, 0], [0]]), "dynamic must be numbers of the shape"),
        (lambda: model.encode_folder(["a"]), r"One path is needed, .* got list: \['a'\]"),
        (lambda: ddr_tf.load(None), "One path is needed, as text or a pathlib.Path; got NoneType"),
        (
            lambda: ddr_tf.load(folder / "runs/quickstart/model.keras"),
            r"is a file; give the folder .*runs/quickstart\)",
        ),
        (lambda: model.sample(0, 1), "count must be at least 1; got 0"),
        (lambda: model.sample(1.5), r"count must be a whole number, got 1\.5"),
        (lambda: model.sample(1, 2**40), "frames_per_sequence must be less than"),
        (lambda: model.sample(seed="a"), "seed must be a whole number"),
        (lambda: model.encode(Image.new("RGB", (0, 5))), "it has no pixels"),
        (lambda: model.decode(np.full(4, 1e39), np.zeros((1, 2))), "static must be finite"),
        (lambda: model.decode(np.full(4, 3e38), np.zeros((1, 2))), "decode gave NaN or infinite numbers"),
        (
            lambda: tf.function(model.encode, autograph=False)(FRAMES),
            "frames are a tensor without values.* call the model from tf.numpy_function",
        ),
        (lambda: model.encode("x" * 5000), "longer than the name of a file may be"),
        (lambda: model.encode(tmp_path / "nowhere"), "There is no folder"),
        (lambda: model.encode(tmp_path / "empty"), "There are no images in"),
        (lambda: model.encode(broken), "a.png cannot be used"),
    ]
    for call, words in wrong:
        with pytest.raises(UserError, match=words):
            call()
    with pytest.raises(UserError, match="holds no SavedModel"):
        ddr_tf.load(tmp_path / "empty")
    with pytest.raises(UserError, match=r"There is no folder .*runs/nope; in .*runs there are: quickstart\."):
        ddr_tf.load(folder / "runs/nope")


def test_the_example_of_the_readme_runs(folder):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    code = re.search(r"<!-- load example -->\n```python\n(.*?)```", readme, re.DOTALL)[1]
    code = "import ddr_tf, sys; assert 'tensorflow' not in sys.modules\n" + code + "print(mixed.shape, drawn.shape)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["(4,) (3, 2)", "(3, 16, 16, 3) (4, 8, 16, 16, 3)"]


def test_what_is_too_large_or_a_model_of_keras_is_told(tmp_path):
    with pytest.raises(UserError, match=r"^1,000,000,000 frames take 12,288 GB; this machine has .* Ask for fewer"):
        ddr_tf.load("puppets").sample(10**8, 10)
    (tmp_path / "other.keras").write_bytes(b"")
    with pytest.raises(UserError, match="is a model of Keras: read it by "):
        ddr_tf.load(tmp_path / "other.keras")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 200), "yours are from 0 to 200: divide them by 255"),
        ((-1, 1), "yours are from -1 to 1: add 1 and divide by 2"),
        ((-30, 90), "yours are from -30 to 90: scale them so that 0 is black and 1 white"),
        ((0, np.nan), "without NaN; 50% of yours are NaN"),
    ],
)
def test_floats_beyond_their_range_are_told_what_to_do(model, values, message):
    frames = np.broadcast_to(np.float64(values)[:, None, None, None], (2, 16, 16, 3))
    with pytest.raises(UserError, match=message):
        model.encode(frames)


def test_floats_that_rounding_has_put_beyond_their_range_are_taken(model):
    frames = FRAMES[0] / np.float32(255)
    moved = np.where(frames == frames.max(), 1.0000001, np.where(frames == frames.min(), -1e-7, frames))
    exact = np.where(frames == frames.max(), 1.0, np.where(frames == frames.min(), 0.0, frames))
    np.testing.assert_allclose(model.encode(moved).static_mean, model.encode(exact).static_mean, atol=1e-6)


def test_bfloat16_is_a_float(model):
    frames = tf.cast(tf.constant(FRAMES[0] / np.float32(255)), tf.bfloat16)
    expected = model.encode(tf.cast(frames, tf.float32).numpy()).static_mean
    np.testing.assert_array_equal(model.encode(frames).static_mean, expected)


def test_masked_codes_and_those_without_values_are_refused(model):
    static = model.encode(FRAMES[0]).static_mean
    with pytest.raises(UserError, match="dynamic is an array of which a part is masked"):
        model.decode(static, np.ma.masked_all((2, 2)))
    with pytest.raises(UserError, match=r"static is a tensor without values; in a tf.function, call the model from"):
        tf.function(lambda codes: model.decode(codes, np.zeros((1, 2))), autograph=False)(tf.constant(static))
