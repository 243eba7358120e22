import contextlib
import gzip
import tracemalloc

import keras
import numpy as np
import pytest

from conftest import draw_mnist, write_idx
from ddr_tf.data import moving_mnist
from ddr_tf.data.moving_mnist import MovingMNIST, PublishedMovingMNIST, load_mnist, read_idx, trajectories
from ddr_tf.errors import UserError


@pytest.fixture
def dataset(drawn_data):
    return MovingMNIST(str(drawn_data), num_train=40, num_held_out=10)


def test_frames_show_two_digits_where_the_labels_say(dataset, drawn_data):
    digits = np.concatenate([images for images, _ in load_mnist(str(drawn_data)).values()])
    random = np.random.RandomState(1)
    sequence, frame = random.randint(0, 50, (6, 3)), random.randint(0, 20, (6, 3))
    frames = dataset.frames(sequence.astype(np.int32), frame.astype(np.int32)).numpy()
    assert (frames.shape, frames.dtype) == ((6, 3, 64, 64, 1), np.uint8)
    for s, t, drawn in zip(sequence.ravel(), frame.ravel(), frames.reshape(-1, 64, 64), strict=True):
        expected = np.zeros((64, 64), np.uint8)
        for i in range(2):
            y, x = (dataset.frame_labels[f"{axis}_{i + 1}"][dataset.rows(s, t)] for axis in "yx")
            window = expected[y : y + 28, x : x + 28]
            np.maximum(window, digits[dataset.digits[s, i]], out=window)
        np.testing.assert_array_equal(drawn, expected)


def test_the_digits_of_one_on_the_trajectory_of_another(dataset):
    swapped = dataset.swap_truth(np.array([3, 7]), np.array([5, 5]), np.array([2, 19]))
    np.testing.assert_array_equal(swapped[1], dataset.render(dataset.digits[7], dataset.corners[5, 19]))
    own = dataset.swap_truth(np.array(5), np.array(5), np.array(2))
    np.testing.assert_array_equal(own, dataset.frames(np.array(5, np.int32), np.array(2, np.int32)))
    corners = np.array([[[0, 0], [36, 36]], [[36, 0], [0, 36]]])
    extremes = dataset.render(dataset.digits[[1, 1]], corners)
    np.testing.assert_array_equal(extremes[0, 36:, 36:], extremes[1, :28, 36:])


def test_held_out_digits_are_those_of_the_test_set(dataset):
    assert dataset.digits[dataset.splits["train"]].max() < 30 <= dataset.digits[dataset.splits["held_out"]].min()
    np.testing.assert_array_equal(dataset.static_labels["digit_1"][:40], dataset.digits[:40, 0] % 10)


def test_equal_seeds_give_equal_data(drawn_data):
    first, same, other = (MovingMNIST(str(drawn_data), 40, 10, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.digits, same.digits)
    np.testing.assert_array_equal(first.corners, same.corners)
    assert (first.corners != other.corners).any()


def test_speed_is_constant_between_reflections_at_the_borders():
    paths = trajectories(np.random.RandomState(0), 2000)
    assert (paths.min(), paths.max()) == (0, 36)
    steps = np.diff(paths, axis=1)
    inside = ((paths > 3) & (paths < 33)).all(axis=-1)
    free = inside[:, :-2] & inside[:, 1:-1] & inside[:, 2:]
    assert np.abs(steps[:, 1:] - steps[:, :-1])[free].max() <= 1  # rounding to whole pixels
    assert np.linalg.norm(steps, axis=-1)[inside[:, 1:] & inside[:, :-1]].mean() == pytest.approx(3.6, abs=0.1)
    assert paths.std(axis=(0, 1)) == pytest.approx(36 / np.sqrt(12), rel=0.1)  # about uniform


def test_one_trajectory_by_hand():
    class Fixed(np.random.RandomState):
        def uniform(self, low=0.0, high=1.0, size=None):
            return np.array([[0.5, 0.85]]) if size == (1, 2) else np.array([0.0])  # to the right

    path = trajectories(Fixed(), 1)[0]
    np.testing.assert_array_equal(path[:, 0], 18)
    # 0.95, then 1.05 is set to the border and turned.
    np.testing.assert_array_equal(path[:4, 1], (36 * np.array([0.95, 1.0, 0.9, 0.8])).astype(int))


def test_the_published_file_is_time_first_and_memory_mapped(drawn_data):
    dataset = PublishedMovingMNIST(str(drawn_data))
    bank = np.load(drawn_data / "moving_mnist/mnist_test_seq.npy")
    assert (dataset.num_sequences, dataset.frame_shape) == (12, (64, 64, 1))
    frames = dataset.frames(np.array([[3, 11]], np.int32), np.array([[19, 0]], np.int32))
    np.testing.assert_array_equal(frames[..., 0], bank[[[19, 0]], [[3, 11]]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no .*mnist_test_seq\.npy; download it from http"),
        (b"nonsense", "cannot be read"),
        (b"", "it is empty"),
        (np.zeros((10, 20, 64, 64), np.uint8), r"shape \[10, 20, 64, 64\], not \[20, 10000, 64, 64\]"),
        (np.zeros((20, 10, 64, 64), np.float32), r"no uint8 array in C order, but float32"),
        (np.zeros((64, 64, 10, 20), np.uint8).T, r"no uint8 array in C order"),
    ],
)
def test_another_file_is_named(tmp_path, content, message):
    (tmp_path / "moving_mnist").mkdir()
    path = tmp_path / "moving_mnist/mnist_test_seq.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(UserError, match=message):
        PublishedMovingMNIST(str(tmp_path))


def test_a_truncated_published_file_is_named(tmp_path, drawn_data):
    (tmp_path / "moving_mnist").mkdir()
    content = (drawn_data / "moving_mnist/mnist_test_seq.npy").read_bytes()
    (tmp_path / "moving_mnist/mnist_test_seq.npy").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        PublishedMovingMNIST(str(tmp_path))


def test_mnist_is_read_from_idx_gzipped_or_not(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for name in ("a", "a.gz"):
        write_idx(tmp_path / name, array)
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)
        whole = (tmp_path / name).read_bytes()
        for broken in (
            whole[:-3],
            whole[:2],
            b"",
            b"\0\0\x08\x03\0\0",
            b"\0\0\x08\x01\xff\xff\xff\xff",
            whole + b"x" if name == "a" else b"\x1f\x8bxx",
        ):
            (tmp_path / name).write_bytes(broken)
            with pytest.raises(UserError, match="MNIST file"):
                read_idx(tmp_path / name)


def test_a_part_of_mnist_is_not_completed_from_elsewhere(tmp_path):
    draw_mnist(tmp_path / "mnist")
    (tmp_path / "mnist/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="a part of MNIST only; t10k-labels-idx1-ubyte"):
        load_mnist(str(tmp_path))


def test_without_mnist_and_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    def refuse():
        raise Exception("URL fetch failure\non somewhere")  # as Keras does

    monkeypatch.setattr(keras.datasets.mnist, "load_data", refuse)
    with pytest.raises(UserError, match="--data_dir") as error:
        MovingMNIST(str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_source_of_mnist_is_told(drawn_data, tmp_path, monkeypatch, capsys):
    digits = load_mnist(str(drawn_data))
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: tuple(digits.values()))
    load_mnist(str(tmp_path))
    first, second = capsys.readouterr().out.splitlines()
    assert str(drawn_data / "mnist") in first
    assert "cache of Keras" in second


@pytest.mark.real_data
def test_real_digits(real_data):
    dataset = MovingMNIST(str(real_data), num_train=10, num_held_out=10)
    assert dataset.digits[10:].min() >= 60000
    assert dataset.render(dataset.digits, dataset.corners[:, 0]).max() > 150


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        ("train-labels-idx1-ubyte", np.full(30, 10, np.uint8), "must be digits from 0 to 9, .* up to 10"),
        ("t10k-labels-idx1-ubyte", np.zeros((12, 2), np.uint8), r"must be digits from 0 to 9, .*\(12, 2\)"),
        ("t10k-labels-idx1-ubyte", np.zeros(11, np.uint8), "11 labels for images of shape"),
    ],
)
def test_labels_that_are_no_digits_are_told(tmp_path, file, array, message):
    draw_mnist(tmp_path / "mnist")
    write_idx(tmp_path / "mnist" / file, array)
    with pytest.raises(UserError, match=message):
        load_mnist(str(tmp_path))


def test_gzip_is_unpacked_up_to_what_the_header_says(tmp_path, monkeypatch):
    draw_mnist(tmp_path / "mnist")
    path = tmp_path / "mnist/train-images-idx3-ubyte.gz"
    header = bytes([0, 0, 8, 3]) + np.array((30, 28, 28), ">i4").tobytes()
    path.write_bytes(gzip.compress(header + bytes(100_000_000), 1))
    tracemalloc.start()
    with pytest.raises(UserError, match="it is not a whole idx file of bytes"):
        load_mnist(str(tmp_path))
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    monkeypatch.setattr(moving_mnist, "MAX_IDX_BYTES", 1000)
    with pytest.raises(UserError, match="it says that it holds 23,520 bytes, more than 1,000"):
        load_mnist(str(tmp_path))


def test_damaged_headers_of_npy_are_told(tmp_path):
    (tmp_path / "moving_mnist").mkdir()
    path = tmp_path / "moving_mnist/mnist_test_seq.npy"
    np.save(path, np.zeros((20, 10, 64, 64), np.uint8))
    content = path.read_bytes()
    for place in range(128):
        for value in (0, 255, content[place] ^ 1):
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            with contextlib.suppress(UserError):
                PublishedMovingMNIST(str(tmp_path))
