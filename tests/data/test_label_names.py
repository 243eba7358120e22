import pytest

from ddr_tf.data.label_names import check_names, name_in_metrics
from ddr_tf.errors import UserError


def test_names_that_metrics_have_themselves_are_told_apart():
    assert [name_in_metrics(name) for name in ("hair", "pose", "identity")] == ["hair", "label_pose", "label_identity"]
    assert name_in_metrics("relative_identity") == "label_relative_identity"  # `swap_relative_identity_accuracy`
    check_names(["identity", "hair"], ["pose", "smile"])


@pytest.mark.parametrize(
    ("of_sequences", "of_frames", "message"),
    [
        (["age"], ["age"], "'age' is of sequences as well as of frames"),
        (["age", "relative_age"], [], "'age' and 'relative_age' would give metrics of the same name"),
        (["hair_standard", "hair"], [], "'hair_standard' and 'hair'"),
        ([], ["face_conditional", "face"], "'face_conditional' and 'face'"),
        (["pose", "label_pose"], [], "'pose' and 'label_pose'"),
        (["age_with_8_frames"], [], "'age_with_8_frames' ends as metrics of other numbers of frames do"),
    ],
)
def test_names_that_give_one_name_twice_are_refused(of_sequences, of_frames, message):
    with pytest.raises(UserError, match=message):
        check_names(of_sequences, of_frames)
