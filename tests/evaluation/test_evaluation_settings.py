import dataclasses
import inspect
import re

import pytest

from ddr_tf.evaluation.settings import STANDARD_NUM_FRAMES, Settings


def test_the_defaults_are_those_of_the_reported_metrics():
    settings = Settings()
    assert settings.frame_counts == (STANDARD_NUM_FRAMES,) == (8,)
    assert (settings.num_seeds, settings.num_pairs, settings.max_sequences, settings.samples) == (3, 64, 300, 512)
    assert not settings.faces


def test_settings_are_explained_and_do_not_change():
    explained = re.findall(r"^  (\w+):", inspect.getdoc(Settings), re.MULTILINE)
    assert explained == [field.name for field in dataclasses.fields(Settings)]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().samples = 1
