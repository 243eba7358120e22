import shutil

import numpy as np
import pytest

from conftest import draw_image
from conftest import frame_folders as of
from ddr_tf.errors import UserError


def test_labels_of_sequences_and_of_frames_from_csv(folder):
    (folder / "labels.csv").write_text("\ufeffsequence,age,town\nanna,31,Ulm\nж 虫,,Bonn\n", encoding="utf-8")
    sequences = of(folder)
    np.testing.assert_array_equal(sequences.static_labels["age"], [31, np.nan, np.nan])
    assert sequences.static_labels["town"].tolist() == [1, -1, 0]
    assert sequences.label_names == {"town": ("Bonn", "Ulm")}
    (folder / "labels.csv").write_text("frame,sequence,smile\nframe 2,anna,0.5\nframe 3.png,b/deep,-1\n")
    sequences = of(folder)
    smile = sequences.frame_labels["smile"]
    assert np.isfinite(smile).sum() == 2
    assert smile[sequences.rows(0, 1)] == 0.5
    assert smile[sequences.rows(1, 2)] == -1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,age\nanna,3\n", "needs a header line with 'sequence'"),
        ("sequence\nanna\n", "the names of labels"),
        ("sequence,age,\nanna,3,\n", "the names of labels"),
        ("", "needs a header line"),
        ("sequence,age\nanna,3\nanne,4\n", r"labels.csv, line 3: there is no anne"),
        ("sequence,frame,age\nanna,frame 99,3\n", r"line 2: there is no anna/frame 99"),
        (b"sequence,age\nanna,\xff\n", "cannot be read as UTF-8"),
    ],
)
def test_labels_that_fit_nothing_are_told_with_their_line(folder, text, message):
    (folder / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        of(folder)


def test_labels_of_what_is_not_used_are_passed_over_and_misspelt_ones_are_not(folder):
    shutil.copy(folder / "anna/frame 1.png", folder / "anna/frame 99.png")
    draw_image(folder / "one/frame 1.png", 7)
    (folder / "labels.csv").write_text("sequence,frame,age\nanna,frame 99,3\none,frame 1,4\nb/deep,frame 1.png,5\n")
    sequences = of(folder)
    assert np.nansum(sequences.frame_labels["age"]) == 5
    (folder / "labels.csv").write_text("sequence,age\none,3\nanne,4\n")
    with pytest.raises(UserError, match="line 3: there is no anne"):
        of(folder)


def test_a_label_is_said_in_one_place(folder):
    (folder / "labels.csv").write_text("sequence,take\nanna,3\n")
    with pytest.raises(UserError, match=r"The label 'take' is in .*labels.csv and in name_pattern"):
        of(folder, name_pattern=r".*frame (?P<take>\d+)")
