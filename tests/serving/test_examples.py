"""Example frames."""

import json

import numpy as np
from PIL import Image

from conftest import RandomDataset
from ddr_tf.serving.examples import example_frames, write_examples


def test_frames_are_spread_over_two_held_out_sequences():
    dataset = RandomDataset(frame_counts=(9, 9, 11, 9, 3), held_out=3)
    frames = example_frames(dataset)
    assert {letter: len(each) for letter, each in frames.items()} == {"A": 6, "B": 6}
    np.testing.assert_array_equal(frames["A"][:, 0, 0, 0], 2 * 16 + np.array([0, 2, 4, 6, 8, 10]))
    np.testing.assert_array_equal(frames["B"][:, 0, 0, 0], 3 * 16 + np.array([0, 2, 3, 5, 6, 8]))


def test_short_sequences_and_a_single_one(tmp_path):
    dataset = RandomDataset(frame_counts=(9, 9, 3), held_out=1)
    write_examples(dataset, tmp_path / "examples")
    index = json.loads((tmp_path / "examples/examples.json").read_text())
    assert index == {letter: [f"{letter}-{number}.png" for number in (1, 2, 3)] for letter in "AB"}
    with Image.open(tmp_path / "examples/B-2.png") as image:
        np.testing.assert_array_equal(image, dataset.bank[2, 1, ..., 0])
