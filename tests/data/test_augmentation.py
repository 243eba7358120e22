import numpy as np
import pytest
import tensorflow as tf

from conftest import RandomDataset
from ddr_tf.data.augmentation import Augmentation, _places, augmented, blended, resampled, smooth
from ddr_tf.errors import UserError

NOTHING = dict(flip=False) | dict.fromkeys(
    ("shift", "scale", "rotation", "warp", "gamma", "contrast", "brightness", "tone"), 0.0
)
KEY = tf.constant([1, 2])


def sequences(batch=3, num_frames=2, shape=(16, 32, 3), seed=0):
    return tf.constant(np.random.RandomState(seed).randint(0, 256, (batch, num_frames, *shape)).astype(np.uint8))


def views(frames, key=KEY, **settings):
    return [view.numpy() for view in Augmentation(**(NOTHING | settings)).views(frames, key, len(frames))]


def test_without_any_change_views_are_the_frames():
    for view in views(sequences()):
        np.testing.assert_array_equal(view, sequences())


@pytest.mark.parametrize("setting", [name for name in NOTHING if name != "flip"])
def test_each_setting_changes_views_apart_and_all_frames_of_a_sequence_alike(setting):
    frames = tf.repeat(sequences(num_frames=1), 2, axis=1)
    one, other = views(frames, **{setting: 0.2})
    for view in (one, other):
        np.testing.assert_array_equal(view[:, 0], view[:, 1])
        assert all((view[i] != frames[i]).numpy().any() for i in range(3))
    assert all((one[i] != other[i]).any() for i in range(3))


@pytest.mark.parametrize("shape", [(64, 64), (64, 128), (128, 64)])
def test_frames_of_any_shape_turn_without_being_sheared(shape):
    angle = 0.1

    def draw(name, *sizes):
        return tf.fill([1, *sizes], angle if name == "rotation" else 0.0)

    rows, columns = (place.numpy()[0] for place in _places(draw, *shape))
    for part in (np.s_[:, 1:], np.s_[1:, :]):
        before = np.s_[:, :-1] if part[0] == slice(None) else np.s_[:-1, :]
        down, right = rows[part] - rows[before], columns[part] - columns[before]
        np.testing.assert_allclose(np.hypot(down, right), 1, atol=1e-3)
    np.testing.assert_allclose(rows[0, 1:] - rows[0, :-1], -np.sin(angle), atol=1e-3)


def test_both_views_are_mirrored_or_none_is():
    frames = sequences(batch=32)
    one, other = views(frames, flip=True)
    np.testing.assert_array_equal(one, other)
    mirrored = np.array([(one[i] == frames[i, :, :, ::-1]).numpy().all() for i in range(32)])
    same = np.array([(one[i] == frames[i]).numpy().all() for i in range(32)])
    assert (mirrored ^ same).all() and 5 < mirrored.sum() < 27


def test_views_are_a_function_of_the_key_and_of_the_place_in_the_batch():
    frames, augmentation = sequences(batch=4), Augmentation()
    whole = augmentation.views(frames, KEY, 4)
    half = augmentation.views(frames[2:], KEY, 4, first=2)
    for of_whole, of_half in zip(whole, half, strict=True):
        # Sines of two and of four angles at once may differ in the last bit, and a pixel by one.
        np.testing.assert_allclose(of_whole[2:].numpy().astype(int), of_half, atol=1)
    assert (augmentation.views(frames, KEY + 1, 4)[0] != whole[0]).numpy().any()


def test_sequences_are_blended_about_their_means():
    frames = sequences(batch=3, num_frames=4).numpy() / np.float32(255)
    parts = np.array([[0.0, 0.25], [1.0, -0.5], [0.3, 0.0]], np.float32)
    mean, own = frames.mean(axis=1, keepdims=True), frames - frames.mean(axis=1, keepdims=True)
    for number, other in enumerate(([2, 0, 1], [1, 2, 0])):  # the sequence before, and the one after
        part = parts[:, number, None, None, None, None]
        wanted = (1 - part) * mean + part * mean[other] + own
        np.testing.assert_allclose(blended(tf.constant(frames), tf.constant(parts))[number], wanted, atol=1e-6)


def deviations(frames):
    return frames - frames.mean(axis=1, keepdims=True)


def test_views_of_blended_sequences_differ_in_the_mean_alone():
    frames = tf.cast(115 + sequences(batch=4) / 25, tf.uint8)  # so that nothing is clipped
    one, other = (view.astype(np.int32) for view in views(frames, blend=0.5))
    assert np.abs(one - other).mean(axis=(1, 2, 3, 4)).min() > 0
    for view in (one, other):
        own = deviations(view) - deviations(frames.numpy().astype(np.int32))
        assert np.abs(own).max() < 1  # rounding
    alone = views(frames[:1], blend=0.5)  # there is nothing to blend it with
    np.testing.assert_array_equal(alone[0], frames[:1])


def test_resampling_is_bilinear_and_mirrors_edges():
    row = tf.constant([[[0.0, 0.4, 0.8, 0.2]] * 4], tf.float32)[..., None]  # one frame, alike in all rows
    x = tf.constant([0.5, -1.0, 4.0, 2.0])
    places = tf.broadcast_to(x, [1, 4, 4])
    found = resampled(row[:, None], tf.zeros([1, 4, 4]), places)
    np.testing.assert_allclose(found[0, 0, 0, :, 0], [0.2, 0.4, 0.8, 0.8], atol=1e-6)


def test_smooth_fields_go_through_constant_knots():
    np.testing.assert_allclose(smooth(tf.fill([2, 4, 4, 1], 0.3), 16, 32), np.full((2, 16, 32, 1), 0.3), rtol=1e-5)


def test_streams_of_views_resume_and_are_shared_by_workers():
    def batches(start, count, **worker):
        stream = RandomDataset().batches("train", 4, 3, seed=0, start_step=start, **worker)
        views = augmented(stream, Augmentation(), seed=0, start_step=start, **worker)
        return list(views.take(count).as_numpy_iterator())

    whole = batches(0, 3)
    assert whole[0].shape == (4, 2, 3, 16, 16, 1) and whole[0].dtype == np.uint8
    np.testing.assert_array_equal(batches(2, 1)[0], whole[2])
    of_workers = [batches(1, 1, worker=worker, num_workers=2)[0] for worker in range(2)]
    np.testing.assert_array_equal(np.concatenate(of_workers), whole[1])
    assert (whole[0] != whole[1]).any()


def test_each_machine_needs_two_sequences_to_blend():
    def stream(batch_size):
        batches = RandomDataset().batches("train", batch_size, 3, seed=0, worker=0, num_workers=2)
        return augmented(batches, Augmentation(blend=0.5), seed=0, start_step=0, worker=0, num_workers=2)

    assert next(stream(4).as_numpy_iterator()).shape == (2, 2, 3, 16, 16, 1)
    with pytest.raises(UserError, match=r"Augmentation.blend needs two sequences of a batch on each machine"):
        stream(2)


def test_settings_out_of_range_are_refused():
    for setting, value in (("warp", -0.1), ("warp", float("nan")), ("blend", -0.5), ("blend", float("inf"))):
        with pytest.raises(UserError, match=f"Augmentation.{setting} must be 0 or more, got {value}"):
            Augmentation(**{setting: value})
