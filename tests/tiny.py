"""The tiny model and the short training that many tests share, and models after some steps."""

import functools
import json

import keras
import tensorflow as tf

from conftest import RandomDataset
from ddr_tf.model.ddr import DDR
from ddr_tf.training.steps import Evaluation, train_function

SIZES = dict(static_dim=4, width=4, pair_width=4, dense_units=8)
SIZE_BINDINGS = tuple(f"DDR.{name}={value}" for name, value in SIZES.items())
TINY = functools.partial(DDR, **SIZES, kl_warmup_steps=4)
SETTINGS = dict(  # of `train`
    sequences=RandomDataset,
    model=TINY,
    steps=8,
    batch_size=4,
    num_frames=3,
    checkpoint_every=4,
    log_every=2,
    steps_per_execution=2,
    held_out_batches=2,
)


class Stop(BaseException):
    pass


def weights(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]


def metrics(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def fitted(strategy, steps=4, steps_per_execution=1, learning_rate=1e-2, sequences=None, splits=1, **arguments):
    """A model after some steps, and the metrics of each execution."""
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = TINY(frame_shape=(16, 16, 1), **arguments)
        model.compile(keras.optimizers.SGD(learning_rate), jit_compile=False)
    function = train_function(model, steps_per_execution, splits)
    batches = iter((sequences or RandomDataset()).batches("train", 4, 3, seed=0))
    history = [function(batches) for _ in range(steps // steps_per_execution)]
    return model, {name: [float(metrics[name]) for metrics in history] for name in history[0]}


def held_out(model, num_batches, sequences=RandomDataset):
    """Held-out metrics."""
    return Evaluation(model, sequences().batches("held_out", 4, 3, 0), num_batches)()


def one_device():
    return tf.distribute.MirroredStrategy(["CPU:0"])


def two_devices():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
