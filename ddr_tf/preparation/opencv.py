"""OpenCV, which the extra `prepare` installs; imported only where it is needed."""

import os
from types import ModuleType

from ddr_tf.errors import UserError


def opencv() -> ModuleType:
    """The module `cv2`, silenced: broken videos are reported by us, and in one line.

    Raises:
      UserError: If it is not installed, or lacks a library of the system.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"Reading videos and finding faces needs OpenCV ({error}); pip install -e '.[prepare]', and where a system "
            "library such as libGL.so.1 is missing, install that or pip install opencv-python-headless over it."
        ) from error
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
