import numpy as np

from ddr_tf.preparation.face_tracks import crop, face_squares, face_track, smooth


def test_crops_have_subpixel_places_and_repeat_the_edge():
    ramp = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], 50, axis=0).repeat(3, axis=2)
    inside = crop(ramp, np.array([50.5, 25.0, 20.0]), 20)
    np.testing.assert_allclose(inside[10, 5:15, 0], np.arange(45.5, 55.5) * 2, atol=1)
    beyond = crop(ramp, np.array([0.0, 0.0, 20.0]), 20)
    assert beyond.shape == (20, 20, 3)
    assert (beyond[:, :9] == 0).all()
    assert crop(ramp, np.array([-30.0, 25.0, 20.0]), 20) is None
    assert crop(ramp, np.array([50.0, 25.0, 0.0]), 20) is None
    assert crop(ramp, np.array([50.0, 25.0, 1e9]), 20) is None
    assert crop(ramp, np.array([np.nan, 25.0, 20.0]), 20) is None


def test_smoothing():
    numbers = np.arange(1, 101)
    constant = np.full(100, 7.0)
    np.testing.assert_allclose(smooth(numbers, constant, 3.0), constant)
    line = 2.0 * numbers
    np.testing.assert_allclose(smooth(numbers, line, 3.0)[10:-10], line[10:-10])
    jitter = np.random.RandomState(0).normal(size=100)
    smoothed = smooth(numbers, line + jitter, 3.0)
    assert np.abs(smoothed - line)[10:-10].mean() < 0.5 * np.abs(jitter).mean()
    # Frames that are far apart in time do not mix.
    np.testing.assert_array_equal(smooth(numbers * 100, jitter, 3.0), jitter)


def test_gaps_are_filled_where_a_detection_is_near():
    track = {number: np.array([number, 10.0, number + 20.0, 30.0]) for number in (1, 2, 3, 8, 9, 10, 60, 61)}
    squares = face_squares(track, range(1, 101), margin=0.25)
    assert sorted(squares) == [*range(1, 21), *range(50, 72)]
    np.testing.assert_allclose(squares[5], (15, 20, 30), atol=0.5)
    np.testing.assert_allclose([area[2] for area in squares.values()], 30)


def test_the_track_is_the_face_that_is_the_most_of_the_clip():
    def box(x, side):
        return [x, 50.0, x + side, 50.0 + side]

    detections = {}
    for number in range(1, 21):
        boxes = [box(100 + 3 * number, 40)] if number not in (6, 7) else []
        if number < 4:
            boxes.insert(0, box(10, 60))  # large, but soon gone
        if number > 10:
            boxes.insert(0, box(300, 20))  # small
        detections[number] = np.array(boxes, np.float64).reshape(-1, 4)
    track = face_track(detections)
    assert list(track) == [number for number in range(1, 21) if number not in (6, 7)]
    for number, found in track.items():
        np.testing.assert_array_equal(found, box(100 + 3 * number, 40))
    assert face_track({1: np.empty((0, 4))}) == {}
