"""Compiled functions that run several steps of a model on all replicas, which Keras's own cannot under a strategy."""

from collections.abc import Callable, Iterable, Iterator

import tensorflow as tf

from ddr_tf.model.bounds import BOUND_METRICS
from ddr_tf.model.ddr import DDR, STEP_METRICS

Metrics = dict[str, tf.Tensor]


def _on_replicas(ddr: DDR, step: Callable[[tf.Tensor], Metrics], batches: Iterator[tf.Tensor]) -> Metrics:
    """What a step of `DDR` returns, the same on all replicas, for the next batch."""
    strategy = ddr.distribute_strategy
    metrics = strategy.run(step, args=(replica_parts(strategy, next(batches)),))
    return {name: strategy.experimental_local_results(value)[0] for name, value in metrics.items()}


def replica_parts(strategy: tf.distribute.Strategy, frames: tf.Tensor) -> tf.distribute.DistributedValues:
    """The batch of this worker, in equal parts for its replicas, in their order.

    A `tf.distribute.DistributedDataset` would give them, too. But where an iterator of one is dropped while it reads,
    as after each evaluation, TensorFlow 2.21 now and then dies of a segmentation fault, even with one replica.
    """
    with tf.device("CPU:0"):  # so that a GPU gets its own part only
        parts = tf.split(frames, len(strategy.extended.worker_devices))
    return strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group % len(parts)]
    )


def train_function(ddr: DDR, steps: int, batch_splits: int) -> Callable[[Iterator[tf.Tensor]], Metrics]:
    """A function that runs `steps` updates on the batches of this worker, and returns their mean metrics.

    It stops early at a step whose metrics are not finite, which `optimizer.iterations` then names.
    """

    def step(frames: tf.Tensor) -> Metrics:
        return ddr.train_step(frames, batch_splits)

    @tf.function(autograph=False)  # it has no Python to convert, and to look for some takes half a second
    def train(batches: Iterator[tf.Tensor]) -> Metrics:
        def more(done: tf.Tensor, total: Metrics) -> tf.Tensor:
            finite = tf.reduce_all(tf.math.is_finite(tf.stack(list(total.values()))))
            return finite & (done < steps)

        def add_step(done: tf.Tensor, total: Metrics) -> tuple[tf.Tensor, Metrics]:
            metrics = _on_replicas(ddr, step, batches)
            return done + 1, {name: value + metrics[name] for name, value in total.items()}

        # From 0, and not from the metrics of a first step, so that the model is traced and compiled only once.
        done, total = tf.while_loop(more, add_step, (0, dict.fromkeys(STEP_METRICS, tf.constant(0.0))))
        return {name: value / tf.cast(done, tf.float32) for name, value in total.items()}

    return train


class Evaluation:
    """Held-out metrics of a model: the means of `BOUND_METRICS` over the same batches each time."""

    def __init__(self, ddr: DDR, batches: Iterable[tf.Tensor], num_batches: int) -> None:
        """Args: batches: This worker's endless stream, begun anew each time; num_batches: How many of them count."""
        self._ddr, self._batches, self._num_batches = ddr, batches, num_batches

    def __call__(self) -> dict[str, float]:
        """The metrics, in nats a frame."""
        self._ddr.reset_metrics()
        metrics = self._function(iter(self._batches))
        return {name: float(value) for name, value in metrics.items()}

    @tf.function(autograph=False)
    def _function(self, batches: Iterator[tf.Tensor]) -> Metrics:
        _, metrics = tf.while_loop(
            lambda done, _: done < self._num_batches,
            lambda done, _: (done + 1, _on_replicas(self._ddr, self._ddr.test_step, batches)),  # of all batches so far
            (0, dict.fromkeys(BOUND_METRICS, tf.constant(0.0))),
        )
        return metrics
