import numpy as np
import pytest

from ddr_tf.data.label_values import label_array


@pytest.mark.parametrize(
    ("values", "numbers", "words"),
    [
        ([0, 1, 2], [0, 1, 2], None),
        (np.array([0.5, np.nan]), [0.5, np.nan], None),
        (np.array([0, 3], object), [0, 3], None),
        ([1, None, 2.5], [1, np.nan, 2.5], None),
        ([1, None, 3], [1, -1, 3], None),
        ([-1, None, 1], [-1, np.nan, 1], None),
        ([2**70, None], [float(2**70), np.nan], None),
        (np.ma.masked_equal([0, 1, 2], 0), [-1, 1, 2], None),
        (np.ma.masked_equal(["a", "b"], "b"), [0, -1], ["a"]),
        ([0.5, -np.inf, 1e300], [0.5, np.nan, np.nan], None),
        (np.array(["b", "a"], np.dtypes.StringDType()), [1, 0], ["a", "b"]),
        ([True, False], [1, 0], ["False", "True"]),
        ([True, None], [1, -1], ["False", "True"]),
        (["m", "f", "NA", "m"], [1, 0, -1, 1], ["f", "m"]),
        (np.array(["c 10", None, "c 9"], object), [1, -1, 0], ["c 9", "c 10"]),
        (np.array([b"b", b"a"]), [1, 0], ["a", "b"]),
    ],
)
def test_labels_as_people_have_them(values, numbers, words):
    found, found_words = label_array(values)
    np.testing.assert_array_equal(found, numbers)
    assert (found_words and list(found_words)) == words
    assert words is None or found.dtype == np.int32


def test_words_that_are_known_keep_their_order():
    assert label_array(["small", "large"], ("small", "large"))[0].tolist() == [0, 1]
    assert label_array([True, False], ("no", "yes"))[1] == ("no", "yes")
    with pytest.raises(ValueError, match="has the value 'tiny', which is none of its words"):
        label_array(["tiny"], ("small", "large"))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.eye(3), r"of the shape \[3, 3\], not one value for each"),
        ([[1, 2], [3]], "not one value for each"),
        (np.array(["a", 1], object), "of int and str; it must be numbers, text or booleans"),
        (np.array([1j]), "of complex128"),
    ],
)
def test_what_is_no_label_is_told(values, reason):
    with pytest.raises(ValueError, match=reason):
        label_array(values)
