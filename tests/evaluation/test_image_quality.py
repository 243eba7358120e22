import numpy as np
import pytest

from ddr_tf.evaluation.image_quality import nearest, psnr, ssim


def test_psnr_is_the_textbook_formula():
    truth = np.zeros((2, 4, 4, 3))
    assert psnr(truth + 0.1, truth) == pytest.approx([20.0, 20.0])


def test_nearest_finds_the_closest():
    candidates = np.random.RandomState(0).uniform(size=(9, 4, 4, 3)).astype(np.float32)
    assert nearest(candidates[[7, 2]] + 0.05, candidates).tolist() == [7, 2]


def test_ssim_of_equal_frames_is_one_and_of_noise_is_near_none():
    frames = np.random.RandomState(0).uniform(size=(2, 3, 16, 16, 3))
    np.testing.assert_allclose(ssim(frames, frames), np.ones((2, 3)), rtol=1e-6)
    assert np.abs(ssim(frames, frames[::-1])).max() < 0.2


def test_nearest_of_bytes_is_that_of_floats_and_of_equal_candidates_the_first():
    candidates = np.random.RandomState(0).randint(0, 256, (9, 4, 4, 3)).astype(np.uint8)
    candidates[:, 0] = 7  # pixels that tell nothing
    frames = candidates[[7, 2]] / 255
    assert nearest(frames, candidates).tolist() == [7, 2]
    assert nearest(frames, candidates / 255).tolist() == [7, 2]
    assert nearest(frames, candidates[[3, 3]]).tolist() == [0, 0]
