import numpy as np
import pytest

from conftest import draw_image
from ddr_tf.data.aff_wild import AffWild, read_annotation
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
    assert {split: len(numbers) for split, numbers in sequences.splits.items()} == {"train": 4, "held_out": 1}


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


@pytest.mark.parametrize(
    ("lines", "message"), [(["1,2,3"], "3 columns"), (["a,b"], "cannot be read"), (["1,2", "3"], "cannot be read")]
)
def test_other_files_than_annotations_are_named(data_dir, lines, message):
    path = annotate(data_dir, "1-30-1280x720", "Train_Set", lines)
    with pytest.raises(UserError, match=message) as error:
        AffWild(str(data_dir), size=16)
    assert str(path) in str(error.value)


def test_an_annotation_of_no_frames_is_empty(data_dir):
    path = annotate(data_dir, "0-30-1280x720", "Train_Set", [])
    with pytest.raises(UserError, match="holds no lines"):
        read_annotation(path)


def test_frames_without_numbers_cannot_be_annotated(data_dir):
    draw_image(data_dir / "aff_wild/cropped_aligned/0-30-1280x720/best.jpg", 99)
    AffWild(str(data_dir), size=16)  # no annotations, no need
    annotate(data_dir, "0-30-1280x720", "Train_Set", ["0,0"])
    with pytest.raises(UserError, match=r"best.jpg: frames must be named by their number"):
        AffWild(str(data_dir), size=16)


def test_a_missing_folder_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"docs/datasets.md says how to get Aff-Wild2"):
        AffWild(str(tmp_path))


@pytest.mark.shared_data
def test_real_clips(shared_data):
    sequences = AffWild(str(shared_data), folder="faces", size=32)
    assert (sequences.num_sequences, len(sequences.splits["held_out"])) == (45, 9)
    assert sequences.frame_counts.sum() == 4217  # 4,226 files, of which 9 are copies of the one before
    assert {remark.kind for remark in sequences.remarks} == {"left out"}
