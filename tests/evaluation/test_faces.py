import numpy as np
import pytest

from conftest import RandomDataset
from ddr_tf.evaluation.faces import measure_landmarks, measure_recognition
from ddr_tf.evaluation.held_out import Codes, Swaps


class People(RandomDataset):
    """Noise around an image of its own for each sequence."""

    def __init__(self):
        super().__init__(frame_counts=(40,) * 12, held_out=6)
        random = np.random.RandomState(0)
        own = random.randint(60, 200, (12, 1, *self.frame_shape))
        self.bank = (own + random.randint(-50, 50, self.bank.shape)).astype(np.uint8)


def swaps_of(people, shown):
    """Pairs whose swap shows the sequence that `shown` picks from (a, b)."""
    random = np.random.RandomState(0)
    a, b = np.array([random.choice(people.splits["held_out"], 2, replace=False) for _ in range(30)]).T
    frame = np.tile(np.arange(8), (30, 1))
    swapped = people.bank[shown(a, b)[:, None], frame + 8] / np.float32(255)
    source = people.bank[b[:, None], frame] / np.float32(255)
    return Swaps(a, b, frame, [], source, source, source, {"direct": swapped})


def test_swaps_that_show_a_are_recognised_and_those_that_show_b_are_not():
    people = People()
    right, wrong = (measure_recognition(people, swaps_of(people, shown)) for shown in (lambda a, b: a, lambda a, b: b))
    assert right["swap_recognised_accuracy"].value > 0.95
    assert right["swap_recognised_accuracy"].ceiling > 0.95
    assert right["swap_recognised_accuracy"].chance == pytest.approx(1 / 6)
    assert wrong["swap_recognised_accuracy"].value < 0.05
    assert wrong["reconstruction_recognised_accuracy"].value > 0.95


def test_who_is_in_no_pair_cannot_be_recognised():
    people = People()
    swaps = swaps_of(people, lambda a, b: a)
    held_out = people.splits["held_out"]
    one_way = swaps._replace(static_sequence=np.full(30, held_out[0]), dynamic_sequence=np.full(30, held_out[-1]))
    assert measure_recognition(people, one_way, max_sequences=1) == {}
    two = one_way._replace(static_sequence=np.resize(held_out[:2], 30))
    # The sources of swaps have but 32 free frames.
    assert measure_recognition(people, two, num_frames=34).keys() == {"swap_recognised_accuracy"}


def test_too_few_frames_leave_recognition_out():
    people = People()
    assert measure_recognition(people, swaps_of(people, lambda a, b: a), num_frames=41) == {}


class BrightSpot:
    """A detector whose five landmarks are all at the brightest pixel, and which sees no face in the dark."""

    def landmarks(self, frame):
        grey = frame[..., 0]
        if grey.max() < 100:
            return np.full((5, 2), np.nan)
        return np.tile(np.unravel_index(grey.argmax(), grey.shape)[::-1], (5, 1)).astype(float)


def spots(places):
    """Frames 16 x 16 with a bright pixel at each place, int `[..., 2]`."""
    frames = np.zeros((*places.shape[:-1], 16, 16, 1), np.float32)
    np.put_along_axis(frames.reshape(-1, 256), (places[..., 1] * 16 + places[..., 0]).reshape(-1, 1), 1.0, axis=1)
    return frames


def test_landmarks_follow_the_source_of_z_or_not():
    random = np.random.RandomState(0)
    places = random.randint(1, 15, (10, 8, 2))
    source, dark = spots(places), np.zeros((10, 8, 16, 16, 1), np.float32)
    swaps = Swaps(
        *[np.zeros(10, int)] * 2, np.zeros((10, 8), int), [], *[source] * 3, {"direct": source, "relative": dark}
    )
    found = measure_landmarks(BrightSpot(), RandomDataset(), swaps, None)
    assert found["real_face_detected"].value == 1.0
    assert found["swap_landmark_distance"].value == 0.0
    assert found["swap_landmark_accuracy"].value == 1.0
    assert found["swap_landmark_distance"].chance > 0.3
    assert found["swap_relative_face_detected"].value == 0.0
    assert found["swap_relative_landmark_accuracy"].value == 0.0
    assert "swap_relative_landmark_distance" not in found


def test_landmarks_are_read_from_z(random_sequences):
    sequences = RandomDataset(frame_counts=(16,) * 8, held_out=6)
    places = np.random.RandomState(0).randint(1, 15, (8, 16, 2))
    sequences.bank = np.round(spots(places) * 255).astype(np.uint8)
    frame = np.tile(np.arange(16).reshape(2, 8), (6, 1, 1))
    numbers = sequences.splits["held_out"]
    dynamic = places[numbers][:, np.arange(16)].reshape(6, 2, 8, 2) / 16.0
    codes = Codes(numbers, frame, frame, np.zeros((6, 2, 3)), dynamic, 0.0)
    frames = spots(places[:, :8])
    swaps = Swaps(*[np.zeros(8, int)] * 2, np.zeros((8, 8), int), [], *[frames] * 3, {})
    found = measure_landmarks(BrightSpot(), sequences, swaps, codes)
    assert found["probe_dynamic_to_landmarks"].value > 0.95
