import os

import numpy as np
import pytest

from conftest import draw_image
from ddr_tf.data.aff_wild import AffWild, find_annotations, read_annotation
from ddr_tf.errors import UserError


@pytest.fixture
def data_dir(tmp_path):
    """Five videos with gaps in their numbering."""
    for i in range(5):
        for number in (1, 2, 5, 9):
            draw_image(tmp_path / f"aff_wild/cropped_aligned/{i}-30-1280x720/{number:05d}.jpg", 10 * i + number)
    return tmp_path


def annotate(data_dir, video, split, lines):
    path = data_dir / "aff_wild/annotations/VA_Set" / split / f"{video}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("valence,arousal\n" + "".join(f"{line}\n" for line in lines))
    return path


def test_videos_without_annotations(data_dir):
    sequences = AffWild(str(data_dir), size=16)
    assert sequences.ids == [f"{i}-30-1280x720" for i in range(5)]
    assert (sequences.name, sequences.frame_labels) == ("aff_wild", {})
    assert {split: len(numbers) for split, numbers in sequences.splits.items()} == {"train": 3, "held_out": 2}


def test_annotations_go_by_the_number_of_the_frame(data_dir):
    annotate(data_dir, "1-30-1280x720", "Train_Set", [f"{i / 10},{-i / 10}" for i in range(1, 8)])
    annotate(data_dir, "3-30-1280x720", "Validation_Set", ["-5,-5", "0.25,-5", "0,0", "0,0", "1,-1"])
    sequences = AffWild(str(data_dir), size=16)
    valence, arousal = (sequences.frame_labels[name].reshape(5, 4) for name in ("valence", "arousal"))
    np.testing.assert_allclose(valence[1], [0.1, 0.2, 0.5, np.nan], rtol=1e-6)  # the annotation ends at frame 7
    np.testing.assert_allclose(arousal[1], [-0.1, -0.2, -0.5, np.nan], rtol=1e-6)
    np.testing.assert_allclose(valence[3], [np.nan, 0.25, 1, np.nan])
    np.testing.assert_allclose(arousal[3], [np.nan, np.nan, -1, np.nan])
    assert np.isnan(valence[[0, 2, 4]]).all()
    assert sequences.splits["held_out"].tolist() == [3]
    assert sequences.splits["train"].tolist() == [0, 1, 2, 4]
    assert sequences.remarks == ()


def test_annotations_that_are_cut_short_are_remarked_on(data_dir, capsys):
    annotate(data_dir, "1-30-1280x720", "Train_Set", ["0.1,0.2"])
    annotate(data_dir, "2-30-1280x720", "Train_Set", ["-5,-5"] * 9)
    annotate(data_dir, "3-30-1280x720", "Validation_Set", ["0,0"] * 9)
    (remark,) = AffWild(str(data_dir), size=16).remarks
    assert remark.reason == "1-30-1280x720.txt has values for 25% of the frames of its video alone; 2 of this kind"
    assert remark.reason in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,1,1"], "line 2 is '1,1,1'"),
        (["a,b"], "cannot be read"),
        (["1,1", "1"], "line 3 is '1'"),
        (["0,0", "", "1,1"], "could not convert"),
        (["0,0", "100,0"], "line 3 is '100,0', not two numbers from -1 to 1, or -5"),
    ],
)
def test_other_files_than_annotations_are_named(data_dir, lines, message):
    path = annotate(data_dir, "1-30-1280x720", "Train_Set", lines)
    with pytest.raises(UserError, match=message) as error:
        AffWild(str(data_dir), size=16)
    assert str(path) in str(error.value)


def test_other_annotations_of_the_same_videos_are_passed_over(data_dir):
    annotate(data_dir, "1-30-1280x720", "Train_Set", ["0.5,0.5"])
    other = data_dir / "aff_wild/annotations/EXPR_Set/1-30-1280x720.txt"
    other.parent.mkdir()
    other.write_text("Neutral,Anger\n3\n")
    assert AffWild(str(data_dir), size=16).frame_labels["valence"][4] == 0.5
    assert read_annotation(annotate(data_dir, "2-30-1280x720", "Train_Set", [])).shape == (0, 2)


def test_annotations_of_no_video_here_are_told(data_dir):
    annotate(data_dir, "another", "Train_Set", ["0.5,0.5"])
    with pytest.raises(UserError, match=r"None of the 1 annotations .* is named as one of the 5 videos"):
        AffWild(str(data_dir), size=16)


def test_if_all_are_of_the_validation_set_some_are_held_out_at_random(data_dir):
    for i in range(5):
        annotate(data_dir, f"{i}-30-1280x720", "Validation_Set", ["0,0"])
    assert len(AffWild(str(data_dir), size=16).splits["held_out"]) == 2


def test_frames_without_numbers_cannot_be_annotated(data_dir):
    draw_image(data_dir / "aff_wild/cropped_aligned/0-30-1280x720/best.jpg", 99)
    AffWild(str(data_dir), size=16)  # no annotations, no need
    annotate(data_dir, "0-30-1280x720", "Train_Set", ["0,0"])
    with pytest.raises(UserError, match=r"best.jpg: frames must be named by their number"):
        AffWild(str(data_dir), size=16)


def test_a_missing_folder_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"docs/datasets.md says how to get Aff-Wild2"):
        AffWild(str(tmp_path))


@pytest.mark.real_data
def test_real_clips(real_data):
    sequences = AffWild(str(real_data), folder="faces", size=32)
    assert (sequences.num_sequences, len(sequences.splits["held_out"])) == (45, 9)
    assert sequences.frame_counts.sum() == 4217  # 4,226 files, of which 9 are copies of the one before
    assert {remark.kind for remark in sequences.remarks} == {"left out"}


def test_annotations_that_are_no_files_are_passed_over(tmp_path):
    (tmp_path / "a.txt").write_text("valence,arousal\n0,0\n")
    os.mkfifo(tmp_path / "b.txt")
    (tmp_path / "c.txt").symlink_to("/dev/zero")
    assert list(find_annotations(tmp_path)) == ["a"]
    (tmp_path / "a.txt").unlink()
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UserError, match=r"a\.txt cannot be read .*a FIFO"):
        read_annotation(tmp_path / "a.txt")


def test_linked_annotations_and_headers_with_spaces(data_dir, tmp_path_factory):
    annotate(data_dir, "1-30-1280x720", "Train_Set", ["0.1,0.2"])
    annotate(data_dir, "3-30-1280x720", "Validation_Set", ["0.3,0.4"])
    elsewhere = tmp_path_factory.mktemp("annotations")
    sets = data_dir / "aff_wild/annotations/VA_Set"
    for split in ("Train_Set", "Validation_Set"):
        (sets / split).rename(elsewhere / split)
        (sets / split).symlink_to(elsewhere / split)
    (elsewhere / "Train_Set/loop").symlink_to(sets)
    path = elsewhere / "Validation_Set/3-30-1280x720.txt"
    path.write_text(path.read_text().replace("valence,arousal", "Valence, Arousal"))
    sequences = AffWild(str(data_dir), size=16)
    np.testing.assert_allclose(sequences.frame_labels["valence"][[4, 12]], [0.1, 0.3], rtol=1e-6)
    assert sequences.splits["held_out"].tolist() == [3]


def test_annotations_without_their_header_are_remarked_on(data_dir, capsys):
    annotate(data_dir, "1-30-1280x720", "Train_Set", ["0.1,0.2"]).write_text("0.1,0.2\n")
    sequences = AffWild(str(data_dir), size=16)
    assert sequences.remarks[-1].reason.startswith("no file in it begins with valence,arousal, so there are no labels")
    assert sequences.remarks[-1].reason in capsys.readouterr().out
