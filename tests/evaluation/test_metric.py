import pytest

from ddr_tf.evaluation.metric import Measurement, Metric


def test_means_and_standard_errors_are_over_seeds():
    metric = Metric.over_seeds([Measurement(1.0, 0.2, 1.0), Measurement(2.0, 0.4, 1.0), Measurement(3.0, 0.6, 1.0)])
    assert metric == pytest.approx((2.0, 1 / 3**0.5, 0.4, 1.0))


def test_of_one_seed_there_is_no_error_and_levels_may_be_missing():
    assert Metric.over_seeds([Measurement(5.0)]) == (5.0, None, None, None)
    assert Metric.over_seeds([Measurement(5.0, ceiling=0.0)] * 2) == (5.0, 0.0, None, 0.0)
