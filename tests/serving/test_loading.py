"""`ddr_tf.load`, on a run and on its export."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
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


@pytest.fixture(scope="module", params=["runs/quickstart", "saved_models/puppets", "saved_models/puppets/1"])
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
    assert np.abs(first.static - other.static).max() > 0.1
    np.testing.assert_allclose(model.decode(first.static, first.dynamic), first.frames, atol=1e-5)


def test_wrong_input_is_one_line_that_says_what(model, folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "empty").mkdir()
    wrong = [
        (lambda: model.encode(FRAMES[0, 0]), r"shape \[N, 16, 16, 3\] .* got uint8 \[16, 16, 3\]"),
        (lambda: model.encode(FRAMES[0].astype(int)), "got int64"),
        (lambda: model.encode(FRAMES[..., :2]), r"frames must have the shape \[B >= 1, .* got 3, 5, 16, 16, 2|got 3 5"),
        (lambda: model.encode(FRAMES * 1.0), r"frames must be in \[0, 1\], without NaN; .*255"),
        (lambda: model.swap(FRAMES[0], FRAMES), "static_frames and dynamic_frames must be of equally many"),
        (lambda: model.decode(np.zeros(5), np.zeros((1, 2))), "static must have the shape"),
        (lambda: model.sample(0, 1), "count must be at least 1; got 0"),
        (lambda: model.encode(tmp_path / "nowhere"), "There is no folder"),
        (lambda: model.encode(tmp_path / "empty"), "There are no images in"),
        (lambda: model.encode(broken), "a.png cannot be used"),
    ]
    for call, words in wrong:
        with pytest.raises(UserError, match=words):
            call()
    with pytest.raises(UserError, match="holds no SavedModel"):
        ddr_tf.load(tmp_path / "empty")


def test_the_example_of_the_readme_runs(folder):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    code = re.search(r"<!-- load example -->\n```python\n(.*?)```", readme, re.DOTALL)[1]
    code = "import ddr_tf, sys; assert 'tensorflow' not in sys.modules\n" + code + "print(mixed.shape, drawn.shape)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["(4,) (3, 2)", "(3, 16, 16, 3) (4, 8, 16, 16, 3)"]
