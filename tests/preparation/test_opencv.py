import sys

import pytest

from ddr_tf.errors import UserError
from ddr_tf.preparation.opencv import opencv


def test_it_is_opencv_and_silent():
    cv2 = opencv()
    assert cv2.__name__ == "cv2"
    assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_SILENT


def test_without_it_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"needs OpenCV .*pip install -e '\.\[prepare\]'") as error:
        opencv()
    assert "\n" not in str(error.value)
