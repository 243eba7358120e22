import numpy as np
import pytest

from conftest import RandomDataset
from ddr_tf.pictures import gallery, plots
from ddr_tf.pictures import selection as selections
from ddr_tf.pictures.gallery import (
    labels_of,
    mass,
    nearest_truth,
    round_trip,
    straight_path,
)
from ddr_tf.pictures.selection import LeftOutError
from pictures_examples import selection_of_noise, selection_of_puppets


@pytest.fixture
def of_puppets():
    return selection_of_puppets()


@pytest.fixture
def puppets(of_puppets):
    return of_puppets.sequences


def test_the_plane_covers_what_p_of_z_given_f_covers(of_puppets):
    figure = gallery.dynamic_plane(of_puppets).figure
    for number, axes in enumerate(figure.axes[1::2]):
        mean, stddev = (of_puppets.shown_codes[name][number].numpy() for name in ("prior_mean", "prior_stddev"))
        for dimension, labels in enumerate((axes.get_xticklabels(), axes.get_yticklabels())):
            ends = [float(labels[place].get_text()) for place in (0, 2, -1)]
            expected = mean[dimension] + stddev[dimension] * np.array([-2.5, 0, 2.5])
            np.testing.assert_allclose(ends, expected, atol=0.051)


def test_the_timeline_finds_the_frames_at_the_extremes(of_puppets, monkeypatch):
    monkeypatch.setattr(of_puppets.sequences, "ordered", True)
    drawn = gallery.timeline(of_puppets)
    codes = of_puppets.encode(of_puppets.order[0])
    np.testing.assert_array_equal(codes.frame, np.arange(12))
    spread = codes.dynamic_mean.std(axis=0) / codes.prior_stddev
    values = codes.dynamic_mean[:, spread.argmax()]
    curve, *marks = drawn.figure.axes[1].lines
    np.testing.assert_allclose(curve.get_ydata(), values)
    marked = {int(mark.get_xdata()[0]) for mark in marks}
    assert {values.argmax(), values.argmin()} <= marked
    assert f"z_{spread.argmax() + 1}" in drawn.caption


def test_long_timelines_take_evenly_spaced_frames(of_puppets, monkeypatch):
    monkeypatch.setattr(of_puppets.sequences, "ordered", True)
    monkeypatch.setattr(selections, "MAX_TIMELINE", 5)
    np.testing.assert_array_equal(of_puppets.encode(7).frame, [0, 3, 6, 9])
    assert "One frame in 3 is drawn." in gallery.timeline(of_puppets).caption


def test_what_makes_no_sense_is_left_out_with_the_reason():
    short = selection_of_noise(frame_counts=(3, 4, 5, 6), held_out=2)
    with pytest.raises(LeftOutError, match="no held-out sequence has 8 frames"):
        gallery.timeline(short)
    line = selection_of_noise(dynamic_dim=1)
    for draw in (gallery.dynamic_plane, gallery.scatter, gallery.prior):
        with pytest.raises(LeftOutError, match="two dynamic dimensions, and the model has one"):
            draw(line)
    assert gallery.swaps(line).figure and gallery.samples(line).figure and gallery.timeline(line).figure
    alone = selection_of_noise(held_out=1)
    for draw in (gallery.swaps, gallery.interpolations):
        with pytest.raises(LeftOutError, match="two held-out sequences, and there is one"):
            draw(alone)
    with pytest.raises(LeftOutError, match="no line of train"):
        gallery.training(alone)


def test_labels_of_frames_come_first_and_unknown_ones_not_at_all(puppets):
    owner, frame = np.array([5, 800, 800]), np.array([0, 3, 11])
    labels = labels_of(puppets, owner, frame)
    assert list(labels) == ["arms", "lean", "skin", "legs", "shirt", "hair"]
    np.testing.assert_array_equal(labels["arms"].values, puppets.poses[frame, 0])
    assert labels["hair"].values.tolist() == [5, 2, 2]
    plain = RandomDataset()
    sequence = labels_of(plain, np.array([4, 5, 4]), np.array([0, 0, 1]))["sequence"]
    assert [sequence.words[value] for value in sequence.values] == ["4", "5", "4"]


def test_mass_of_known_normals():
    edges = np.array([[-9.0, 0, 9], [-9, 0, 9]])
    one = np.ones((1, 2))
    np.testing.assert_allclose(mass(np.zeros((1, 2)), one, np.ones(1), edges), np.full((2, 2), 0.25))
    right = mass(np.array([[1.0, 0.0]]), one, np.ones(1), edges)
    np.testing.assert_allclose(right, [[0.0793276, 0.4206724]] * 2, atol=1e-6)  # half of 1 - Phi(1), and of Phi(1)
    means, stddevs = np.random.RandomState(0).uniform(0.5, 2, (2, 6, 2))
    fine = np.linspace([-15, -15], [15, 15], 41, axis=-1)
    mixture = mass(means, stddevs, np.full(6, 1 / 6), fine)
    assert mixture.sum() == pytest.approx(1)
    middles = (fine[0, 1:] + fine[0, :-1]) / 2
    assert mixture.sum(axis=0) @ middles == pytest.approx(means[:, 0].mean(), abs=1e-6)


def test_paths_pass_through_their_stops():
    stops = np.array([[0.0, 0.0], [4.0, 2.0], [4.0, -2.0]])
    np.testing.assert_allclose(straight_path(stops, 4)[::4], stops)
    np.testing.assert_allclose(straight_path(stops, 4)[1], [1.0, 0.5])
    trip = round_trip(stops)
    np.testing.assert_allclose(trip[:: gallery.GIF_STEPS], stops)
    assert len(trip) == 3 * gallery.GIF_STEPS
    steps = np.linalg.norm(np.diff(np.concatenate([trip, trip[:1]]), axis=0), axis=-1)
    assert steps.max() < 2 * 2**0.5 * 4 / gallery.GIF_STEPS * np.pi / 2


def test_interpolations_pass_through_reconstructions_and_swaps(of_puppets, monkeypatch):
    shown = {}
    monkeypatch.setattr(
        gallery.plots, "draw_interpolations", lambda rows, columns, ends: shown.update(rows=rows, columns=columns)
    )
    monkeypatch.setattr(gallery, "_film", lambda frames: frames)
    films = gallery.interpolations(of_puppets).animations
    codes, real = of_puppets.shown_codes, of_puppets.real
    static, dynamic = (codes[name].numpy() for name in ("static_mean", "dynamic_mean"))
    reconstructed = of_puppets.model.decode(static, dynamic).numpy()
    swapped = gallery.contact_sheets.swap_frames(of_puppets.model, static, real[0])
    for row, pair in enumerate(np.arange(len(static) // 2 * 2).reshape(-1, 2)):
        np.testing.assert_allclose(shown["rows"][row, 0], reconstructed[pair[0], 0], atol=1e-5)
        last = gallery.contact_sheets.swap_frames(of_puppets.model, static[pair[1:]], real[pair[0], :1])[0, 0]
        np.testing.assert_allclose(shown["rows"][row, -1], last, atol=1e-5)
    for number, along in enumerate(shown["columns"]):
        spread = dynamic[number] / codes["prior_stddev"][number].numpy()
        ends = list(gallery._furthest(spread))
        np.testing.assert_allclose(along[[0, -1]], reconstructed[number, ends], atol=1e-5)
    stops = gallery.GIF_IDENTITIES
    of_static, of_dynamic = (films[f"interpolation_{name}"][:, :: gallery.GIF_STEPS] for name in ("static", "dynamic"))
    np.testing.assert_allclose(of_static, swapped[:stops, :stops].swapaxes(0, 1), atol=1e-5)
    np.testing.assert_allclose(of_dynamic, swapped[:stops, :stops], atol=1e-5)


def test_of_several_truths_the_nearest_is_shown():
    truths = [np.zeros((2, 4, 4, 1), np.uint8), np.full((2, 4, 4, 1), 255, np.uint8)]
    decoded = np.stack([np.full((4, 4, 1), 0.9), np.full((4, 4, 1), 0.2)])
    np.testing.assert_array_equal(nearest_truth(truths, decoded)[:, 0, 0, 0], [1, 0])
    assert nearest_truth([], decoded) is None


def test_every_plot_has_a_caption(of_puppets, monkeypatch):
    monkeypatch.setattr(of_puppets.sequences, "ordered", True)
    for name, draw in gallery.PLOTS.items():
        if name != "training":
            with plots.style():
                assert draw(of_puppets).caption.endswith("."), name


def test_frames_in_no_order_have_no_timeline(of_puppets):
    with pytest.raises(LeftOutError, match="the frames of puppets are in no order that means something"):
        gallery.timeline(of_puppets)
