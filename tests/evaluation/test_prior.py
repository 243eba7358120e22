import numpy as np
import pytest

from ddr_tf.evaluation.prior import coverage, measure_prior
from evaluation_examples import puppets, tiny_model


def test_coverage_is_the_entropy_over_its_most():
    assert coverage(np.arange(12).repeat(5), 12) == pytest.approx(1)
    assert coverage([3] * 9, 12) == 0
    assert coverage([0, 0, 1, 1], 4) == pytest.approx(0.5)


def test_coverage_of_a_model_is_a_fraction():
    measurements = measure_prior(tiny_model(), puppets(num_poses=20), seed=0, num_frames=8)
    assert 0 <= measurements["prior_pose_coverage"].value <= 1
