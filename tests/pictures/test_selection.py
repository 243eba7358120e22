import numpy as np
import pytest

from ddr_tf.pictures import gallery
from ddr_tf.pictures import selection as selections
from ddr_tf.pictures.selection import LeftOutError, encode_sequence
from pictures_examples import selection_of_noise, selection_of_puppets


@pytest.fixture
def of_puppets():
    return selection_of_puppets()


@pytest.fixture
def puppets(of_puppets):
    return of_puppets.sequences


def test_only_held_out_sequences_are_shown(of_puppets, puppets):
    assert set(of_puppets.order) == set(puppets.splits["held_out"])
    assert {codes.sequence for codes in of_puppets.codes} <= set(puppets.splits["held_out"])
    assert all(len(set(codes.frame)) == len(codes.frame) == 12 for codes in of_puppets.codes)


def test_codes_of_many_frames_are_those_of_the_model(of_puppets, puppets, monkeypatch):
    monkeypatch.setattr(selections, "FRAMES_AT_ONCE", 5)
    few = np.array([3, 1, 4])
    found = encode_sequence(of_puppets.model, puppets, 7, few, np.arange(12))
    frames = puppets.frames(np.full((1, 3), 7, np.int32), few[None].astype(np.int32))
    expected = {name: value[0].numpy() for name, value in of_puppets.model.encode(frames).items()}
    np.testing.assert_allclose(found.dynamic_mean[few], expected["dynamic_mean"], atol=1e-5)
    np.testing.assert_allclose(found.dynamic_stddev[few], expected["dynamic_stddev"], atol=1e-5)
    np.testing.assert_allclose(found.prior_mean, expected["prior_mean"], atol=1e-5)


def test_the_two_dimensions_that_vary_most_are_drawn():
    selection = selection_of_noise(dynamic_dim=4)
    for codes in selection.codes:
        codes.dynamic_mean[:] = np.sin(np.arange(len(codes.frame)))[:, None] * codes.prior_stddev * [1, 3, 0, 2]
    assert selection.dimensions == (1, 3)
    assert "z has 4 dimensions" in gallery.prior(selection).caption


def test_one_dynamic_dimension_has_no_plane():
    with pytest.raises(LeftOutError, match="two dynamic dimensions, and the model has one"):
        selection_of_noise(dynamic_dim=1).dimensions  # noqa: B018  (it is a property)


def test_what_is_shown_is_what_was_encoded(of_puppets, puppets):
    assert of_puppets.shown.tolist() == of_puppets.order[: selections.NUM_SHOWN].tolist()
    real = puppets.frames(
        np.int32(np.broadcast_to(of_puppets.shown[:, None], (6, 8))), np.int32(of_puppets.shown_frame)
    )
    np.testing.assert_allclose(of_puppets.real, real / np.float32(255), atol=1e-6)
    np.testing.assert_allclose(
        of_puppets.model.encode(real)["static_mean"], of_puppets.shown_codes["static_mean"], atol=1e-5
    )
    assert of_puppets.name(of_puppets.order[0]) == puppets.ids[of_puppets.order[0]]
