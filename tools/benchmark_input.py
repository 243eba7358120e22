"""Measures how fast a dataset gives frames, alone, and how fast the model of its gin file trains on them."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ddr_tf import commands, config
from ddr_tf.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

WARM_UP_BATCHES = 20
WARM_UP_STEPS = 10


def source_speed(batches: "tf.data.Dataset", seconds: float) -> float:
    """Frames/s of a stream of batches, uint8 `[B, N, H, W, C]`, after a warm-up."""
    stream = iter(batches)
    for _ in range(WARM_UP_BATCHES):
        frames = next(stream)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(stream)
        count += 1
    return count * frames.shape[0] * frames.shape[1] / (time.perf_counter() - start)


def training_speed(batches: "tf.data.Dataset", steps: int) -> float:
    """Frames/s of `steps` updates of the configured model, after a warm-up that also compiles."""
    import keras

    _, num_frames, *frame_shape = batches.element_spec.shape
    ddr = config.bound("train.model")(frame_shape=tuple(frame_shape), noise_seed=0)
    ddr.compile(optimizer=keras.optimizers.Adam(1e-4), jit_compile=False)
    ddr.fit(batches, steps_per_epoch=WARM_UP_STEPS, shuffle=False, verbose=0)
    start = time.perf_counter()
    ddr.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
    return steps * batches.element_spec.shape[0] * num_frames / (time.perf_counter() - start)


def main() -> int:
    """Returns the exit status."""
    flags = argparse.ArgumentParser(
        description=__doc__, epilog="example: python tools/benchmark_input.py --gin_file gin/sprites_small.gin"
    )
    config.add_flags(flags)
    flags.add_argument("--seconds", type=float, default=10, help="of measuring the source (default: %(default)s)")
    flags.add_argument("--steps", type=int, default=50, help="of training; 0: none (default: %(default)s)")
    flags.add_argument("--json", metavar="FILE", help="where to write the figures, too")
    given = flags.parse_args()

    def body() -> None:
        from ddr_tf import training  # noqa: F401  (registers what gin files name)
        from ddr_tf.data.sequences import TRAIN

        if not given.seconds > 0 or given.steps < 0:
            raise UserError("--seconds must be above 0, and --steps at least 0.")
        config.load(given.gin_file, given.gin_param, given.data_dir)
        start = time.perf_counter()
        sequences = config.bound("train.sequences")()
        batches = sequences.batches(TRAIN, config.bound("train.batch_size"), config.bound("train.num_frames"), seed=0)
        next(iter(batches))
        figures = {"dataset": sequences.name, "first_batch_seconds": time.perf_counter() - start}
        source = figures["source_frames_per_second"] = source_speed(batches, given.seconds)
        print(f"{sequences.name}: batches of {batches.element_spec.shape}")
        print(f"first batch after    {figures['first_batch_seconds']:>10.1f} s")
        print(f"the source alone     {source:>10,.0f} frames/s", flush=True)
        if given.steps:
            trained = figures["training_frames_per_second"] = training_speed(batches, given.steps)
            print(f"training             {trained:>10,.0f} frames/s, {source / trained:,.0f} times less")
        if given.json:
            try:
                Path(given.json).write_text(json.dumps(figures, indent=2) + "\n")
            except OSError as error:
                raise UserError(f"{given.json} cannot be written: {error}.") from error

    return commands.run(body)


if __name__ == "__main__":
    sys.exit(main())
