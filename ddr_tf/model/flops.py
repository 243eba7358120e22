"""The floating-point operations of a training step of the model, counted from its sizes. Pure.

    forward       2 x multiply-adds of every convolution and dense layer
    backward      the same for the gradient by the weights, and again for that by the inputs, which the first
                  convolution does not need: its inputs are the frames

A convolution of k x k takes k k C_in C_out multiply-adds at each place of its output, and a transposed one at each
place of its input; padding counts as any other input. Operations done once a sequence are shared by its N frames.
Biases, activations, the mean over pairs, densities and the optimizer are not counted.
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from ddr_tf.model.networks import DOWNSAMPLING, RANK, channels_of_maps, num_pixel_channels

PARTS = ("frame encoder", "static posterior", "dynamic posterior", "dynamic prior", "decoder")
KERNEL, PAIR_KERNEL = 4, 3  # sides of the convolutions that change the resolution, and of those over pairs


class Flops(NamedTuple):
    """Operations of the forward and of the backward pass."""

    forward: float
    backward: float

    @property
    def both(self) -> float:
        """Of a training step."""
        return self.forward + self.backward


def total(parts: dict[str, Flops]) -> Flops:
    """The sum over parts."""
    return Flops(sum(part.forward for part in parts.values()), sum(part.backward for part in parts.values()))


def per_frame(num_frames: int, model: Mapping[str, Any]) -> dict[str, Flops]:
    """Operations of a training step for each frame of its batch, by part of the model.

    Args:
      num_frames: N, as of `training.loop.train`.
      model: What `DDR.get_config` gives.

    Returns:
      For each of `PARTS`, operations a frame; a frame is one of the B N that the batch has.
    """
    height, frame_width, channels = model["frame_shape"]
    static_dim, dynamic_dim, dense_units = model["static_dim"], model["dynamic_dim"], model["dense_units"]
    width, pair_width, aggregation = model["width"], model["pair_width"], model["static_aggregation"]
    encoded = model["num_static_frames"] or num_frames  # frames of a sequence that f is computed from
    decoded = num_frames - model["num_static_frames"]
    places = (height // DOWNSAMPLING) * (frame_width // DOWNSAMPLING)  # of a feature map

    # Multiply-adds of every layer, every time it is applied.
    taps = KERNEL * KERNEL
    ends = [*channels_of_maps(width, model["narrowing"]), channels]  # of the coarsest map, .., of a frame
    # A layer between two maps is applied at each place of the coarser one, of which there are four times as many next.
    deconvs = [4**i * places * taps * coarse * fine for i, (coarse, fine) in enumerate(itertools.pairwise(ends))]
    convs = deconvs[::-1]
    pair = places * PAIR_KERNEL**2 * width * pair_width * (2 if aggregation == "pairs" else 1)
    head = places * (PAIR_KERNEL**2 * pair_width * pair_width + pair_width * dense_units)
    head += dense_units * 2 * static_dim
    of_static = static_dim * dense_units  # what a dense layer over a frame and f does once a sequence
    posterior = (places * width + dense_units + 2 * dynamic_dim) * dense_units
    prior = (static_dim + dense_units + 2 * dynamic_dim) * dense_units if model["learned_prior"] else 0
    start = (dynamic_dim + dense_units + places * RANK) * dense_units + places * RANK * width

    pixel_shortcut, static_shortcut = 0, 0
    if model["shortcuts"]:
        pixel_shortcut = height * frame_width * channels
        static_shortcut = places * num_pixel_channels(channels) * 2 * static_dim

    heads = 1 if aggregation in ("pairs", "pooled") else encoded  # how often the head is applied
    # Of layers over the frames themselves, there is no gradient of the inputs.
    of_frames = {"frame encoder": num_frames * convs[0], "static posterior": heads * static_shortcut}
    of_sequence = {
        "frame encoder": num_frames * sum(convs),
        "static posterior": encoded * pair + heads * (head + static_shortcut),
        "dynamic posterior": decoded * posterior + of_static,
        "dynamic prior": prior,
        "decoder": decoded * (start + sum(deconvs) + dense_units * pixel_shortcut)
        + of_static
        + static_dim * (RANK * width + pixel_shortcut),
    }
    parts = {}
    for part, multiply_adds in of_sequence.items():
        forward, backward = 2 * multiply_adds, 2 * (2 * multiply_adds - of_frames.get(part, 0))
        parts[part] = Flops(forward / num_frames, backward / num_frames)
    return parts
