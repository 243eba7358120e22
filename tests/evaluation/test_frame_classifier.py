import numpy as np
import pytest

from conftest import RandomDataset
from ddr_tf.evaluation.frame_classifier import FrameClassifier, classification_scores
from evaluation_examples import Labelled


def test_a_judge_of_real_frames_knows_them_and_what_is_generated_by_an_oracle():
    sequences = Labelled()
    seen = FrameClassifier(sequences, seed=0, num_frames=1000)
    assert (seen.static_labels, seen.frame_labels) == (["who"], ["what"])
    sequence, frame = np.array([39, 20, 31]), np.array([7, 0, 2])
    found = seen(sequences.frames(sequence, frame).numpy() / np.float32(255))
    for label, right in {"who": [0, 2, 1], "what": [3, 0, 2]}.items():
        assert list(seen.truth(sequence, frame)[label]) == right
        assert list(found[label].argmax(axis=1)) == right
    assert FrameClassifier(RandomDataset(), seed=0).labels == []


def test_judged_is_the_fields_formulas():
    sure = np.eye(4)[[0, 1, 2, 3]]
    found = classification_scores(sure, np.array([0, 1, 2, 2]))
    assert found["accuracy"] == 0.75
    assert found["entropy"] == pytest.approx(np.log(4))
    assert found["conditional_entropy"] == pytest.approx(0, abs=1e-9)
    assert found["inception_score"] == pytest.approx(4)
    unsure = classification_scores(np.full((5, 4), 0.25), np.zeros(5, int))
    assert unsure["inception_score"] == pytest.approx(1)
    assert unsure["conditional_entropy"] == pytest.approx(np.log(4))
