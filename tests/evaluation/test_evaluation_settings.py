import dataclasses
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from ddr_tf.errors import UserError
from ddr_tf.evaluation.settings import STANDARD_NUM_FRAMES, Settings

PAGE = (Path(__file__).parents[2] / "docs/evaluation.md").read_text()


def test_the_defaults_are_those_that_the_page_names():
    settings = Settings()
    assert settings.frame_counts is None
    for text in (
        f"N** is the number of frames that f is computed from: {STANDARD_NUM_FRAMES},",
        f"mean over evaluation seeds** ({settings.num_seeds};",
        f"{settings.num_pairs} pairs (A, B)",
        f"up to {settings.max_sequences} sequences",
        f"{settings.prior_sequences} sequences, with {settings.prior_samples} z",
        f"{settings.samples} samples",
        f"tighter bound, {settings.bound_samples} samples",
        f"{settings.classifier_frames:,} real frames",
        f"up to {settings.recognised_sequences} sequences",
        f"in {settings.landmark_pairs} pairs",
    ):
        assert text in PAGE, text


def test_settings_are_explained_and_do_not_change():
    explained = re.findall(r"^  (\w+):", inspect.getdoc(Settings), re.MULTILINE)
    assert explained == [field.name for field in dataclasses.fields(Settings)]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().samples = 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame_counts": 8}, r"frame_counts must be one or more numbers of frames, as \(8,\) or \(8, 2\); got 8"),
        ({"frame_counts": ()}, r"frame_counts must be one or more"),
        ({"frame_counts": (8, 0)}, "frame_counts: 0 is not a whole number of at least 1"),
        ({"num_pairs": 0}, "num_pairs: 0 is not a whole number of at least 1"),
        ({"num_seeds": 0}, "num_seeds: 0 is not"),
        ({"samples": 2.5}, "samples: 2.5 is not"),
        ({"max_sequences": 1}, "max_sequences: 1 is not a whole number of at least 2"),
    ],
)
def test_numbers_that_are_not_possible_are_refused(settings, message):
    with pytest.raises(UserError, match=f"^Settings.{message}"):
        Settings(**settings)


def test_numbers_of_numpy_are_numbers():
    assert Settings(frame_counts=(np.int64(4),), num_seeds=np.int32(2)).num_seeds == 2
