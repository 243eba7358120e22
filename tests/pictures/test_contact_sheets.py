import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import RandomDataset
from ddr_tf.model.ddr import DDR
from ddr_tf.pictures import contact_sheets
from tiny import SIZES


def test_grid_puts_each_frame_in_its_place():
    frames = np.zeros((2, 3, 64, 64, 3))
    frames[1, 2] = [1.0, 0.5, 0.0]
    frames[0, 1] = np.nan
    sheet = contact_sheets.grid(frames)
    gap = contact_sheets.GAP
    assert sheet.shape == (2 * 64 + 3 * gap, 3 * 64 + 4 * gap, 3)
    assert (sheet[gap : gap + 64, gap : gap + 64] == 0).all()
    assert (sheet[gap : gap + 64, 64 + 2 * gap : 128 + 2 * gap] == contact_sheets.BACKGROUND).all()
    assert (sheet[-gap - 64 : -gap, -gap - 64 : -gap] == [255, 128, 0]).all()
    assert (sheet[:gap] == contact_sheets.BACKGROUND).all()


def test_grid_enlarges_small_and_grey_frames_exactly():
    frames = np.random.RandomState(0).uniform(size=(1, 1, 16, 16, 1))
    sheet = contact_sheets.grid(frames)[
        contact_sheets.GAP : -contact_sheets.GAP, contact_sheets.GAP : -contact_sheets.GAP
    ]
    assert sheet.shape == (64, 64, 3)
    np.testing.assert_array_equal(sheet[::4, ::4, 0], np.round(frames[0, 0, ..., 0] * 255))


def test_caption_keeps_the_sheet_and_wraps():
    sheet = np.zeros((10, 200, 3), np.uint8)
    one, three = (contact_sheets.with_caption(sheet, text) for text in ("short", "longer words " * 6))
    assert one.shape[1] == three.shape[1] == 200
    assert three.shape[0] > one.shape[0] > 10
    assert (one[-10:] == 0).all()
    assert (one[:-10] < 128).any()


@pytest.mark.parametrize(("channels", "dynamic_dim"), [(1, 1), (3, 2), (3, 4)])
def test_contact_sheets_of_any_model(channels, dynamic_dim):
    keras.utils.set_random_seed(0)
    model = DDR((16, 16, channels), **SIZES, dynamic_dim=dynamic_dim)
    frames = tf.constant(np.random.RandomState(0).randint(0, 256, (4, 3, 16, 16, channels)).astype(np.uint8))
    shown = contact_sheets.Shown(frames, frames[:2])
    sheets = contact_sheets.contact_sheets(model, shown, seed=0)
    assert set(sheets) == {"reconstructions", "reconstructions_train", "swaps", "samples", "latent_plane"}
    for name, sheet in sheets.items():
        assert sheet.dtype == np.uint8 and sheet.ndim == 3, name
        assert sheet.std() > 0, name
    again = contact_sheets.contact_sheets(model, shown, seed=0)
    np.testing.assert_array_equal(sheets["samples"], again["samples"])


def test_swaps_show_z_as_the_posterior_sees_it_given_the_other_f():
    keras.utils.set_random_seed(0)
    model = DDR((16, 16, 1), **SIZES, initial_static_stddev=0.1)
    static = tf.random.stateless_normal([2, 4], [0, 0]) * 3
    frames = tf.constant(np.random.RandomState(0).randint(0, 256, (3, 16, 16, 1)).astype(np.uint8))
    swapped = contact_sheets.swap_frames(model, static, frames)
    given = contact_sheets.dynamic_given(model, static, frames).numpy()
    for row in range(2):
        for column in range(3):
            of_frame, of_row = frames[None, column : column + 1], static[row : row + 1]
            z = model.dynamic_posterior(model.features(of_frame), of_row).mean()
            np.testing.assert_allclose(given[row, column], z[0, 0], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(swapped[row, column], model.decode(of_row, z)[0, 0], atol=1e-6)
    assert np.abs(given[0] - given[1]).max() > 1e-3


def test_the_diagonal_of_the_swaps_is_the_reconstruction():
    keras.utils.set_random_seed(0)
    model = DDR((16, 16, 1), **SIZES)
    frames = tf.constant(np.random.RandomState(0).randint(0, 256, (3, 2, 16, 16, 1)).astype(np.uint8))
    expected = np.round(model(frames)["reconstruction"][:, 0].numpy() * 255)
    sheet = contact_sheets.swaps(model, frames)
    cell, wide = 64 + contact_sheets.GAP, 4 * contact_sheets.GAP
    top = sheet.shape[0] - contact_sheets.grid(np.zeros((4, 4, 16, 16, 1)), (0, 0)).shape[0]
    for number in range(3):
        row = top + contact_sheets.GAP + cell * (number + 1) + wide
        column = contact_sheets.GAP + cell * (number + 1) + wide
        shown = sheet[row : row + 64 : 4, column : column + 64 : 4, 0].astype(int)
        np.testing.assert_allclose(shown, expected[number, ..., 0], atol=1)


def test_different_sequences_are_shown_of_either_split():
    few = contact_sheets.draw_shown(RandomDataset(), seed=0)
    assert few.held_out.shape == (2, 8, 16, 16, 1)
    assert few.train.shape == (4, 8, 16, 16, 1)
    many = RandomDataset(frame_counts=(9,) * 15, held_out=5)
    shown = contact_sheets.draw_shown(many, seed=1)
    for frames, split in zip(shown, ("held_out", "train"), strict=True):
        numbers = frames.numpy()[:, :, 0, 0, 0] // 16  # the first pixel tells
        assert len(np.unique(numbers[:, 0])) == min(8, len(many.splits[split]))
        assert set(numbers[:, 0]) <= set(many.splits[split])
        assert (numbers == numbers[:, :1]).all()


def test_row_names_in_other_scripts_are_shown_or_replaced():
    sheet = np.zeros((2 * 66 + 2, 100, 3), np.uint8)
    named = contact_sheets.with_row_names(sheet, ["plain", "山田\U0010fffd"])
    numbered = contact_sheets.with_row_names(sheet, ["plain", "row 2"])
    np.testing.assert_array_equal(named, numbered)
    broken, escaped = (contact_sheets.with_row_names(sheet, ["plain", name]) for name in ("new\nline", "new\\nline"))
    np.testing.assert_array_equal(broken, escaped)
