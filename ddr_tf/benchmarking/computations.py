"""What is timed: a matrix product, executions of the training step, and the parts of a step."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ddr_tf.errors import UserError
from ddr_tf.model.bounds import as_float
from ddr_tf.model.ddr import DDR
from ddr_tf.training.devices import Devices
from ddr_tf.training.steps import train_function

MATRIX = 2048  # rows and columns of the matrices that sgemm multiplies


def noise(batch_size: int, num_frames: int, frame_shape: tuple[int, int, int]) -> tf.Tensor:
    """Frames of uniform noise, uint8 `[B, N, H, W, C]`."""
    shape = (batch_size, num_frames, *frame_shape)
    return tf.constant(np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8))


def sgemm(devices: Devices) -> Callable[[], Any]:
    """`batch_splits` products of two float32 `[MATRIX, MATRIX]` side by side on each device."""
    matrices = [tf.random.stateless_normal([MATRIX, MATRIX], [0, split]) for split in range(devices.batch_splits)]

    def products(*matrices: tf.Tensor) -> list[tf.Tensor]:
        return [matrix @ matrix for matrix in matrices]

    return on_devices(devices.strategy, products, matrices)


def training_steps(ddr: DDR, devices: Devices, batch_size: int, num_frames: int, steps: int) -> Callable[[], None]:
    """One execution of the function that training calls, `steps` updates, on one batch of noise repeated.

    Raises:
      UserError: When called, if the ELBO becomes NaN or infinite, since fewer steps are done then.
    """
    of_worker = noise(batch_size // devices.num_workers, num_frames, ddr.frame_shape)
    iterator = iter(tf.data.Dataset.from_tensors(of_worker).repeat())
    run = train_function(ddr, steps, devices.batch_splits)

    def execute() -> None:
        if not math.isfinite(run(iterator)["elbo"]):
            raise UserError("Training on noise became NaN, so it cannot be timed; lower train.learning_rate.")

    return execute


def parts(ddr: DDR, devices: Devices, frames: tf.Tensor) -> dict[str, dict[str, Callable[[], Any]]]:
    """Forward, and forward and backward, of each part of the model by itself, compiled; and the optimizer's update.

    Backward is the gradient by the part's weights and by its inputs, except for frames. Each device gets its part of
    the batch, in as many splits as in training.

    Args:
      ddr: A compiled model.
      devices: What it is trained on.
      frames: uint8 `[B, N, H, W, C]`.

    Returns:
      Part -> "forward" and "forward_and_backward" -> what runs it; "optimizer" -> "update".
    """
    passes = {}
    for part, (layer, function, fixed, inputs) in _layers(ddr, frames).items():
        both = _with_gradient(layer, function, len(fixed))
        passes[part] = {
            name: on_devices(devices.strategy, _in_splits(computed, devices.batch_splits), (*fixed, *inputs))
            for name, computed in {"forward": function, "forward_and_backward": both}.items()
        }
    return passes | {"optimizer": {"update": _update(ddr)}}


def _layers(ddr: DDR, frames: tf.Tensor) -> dict[str, tuple[tf.Module, Callable[..., Any], tuple, tuple]]:
    """Part -> its layers, its function, the inputs without a gradient, and those with one; for one device."""
    frames = frames[: len(frames) // ddr.distribute_strategy.num_replicas_in_sync]
    features, targets = ddr.features(frames), as_float(frames)
    static = tf.random.stateless_normal([len(frames), ddr.static_dim], [0, 0])
    dynamic = tf.random.stateless_normal([*frames.shape[:2], ddr.dynamic_dim], [0, 1])

    def log_likelihood(targets: tf.Tensor, static: tf.Tensor, dynamic: tf.Tensor) -> tf.Tensor:
        return ddr.likelihood(static, dynamic).log_prob(targets)

    return {
        "frame encoder": (ddr.frame_encoder, ddr.features, (frames,), ()),
        "static posterior": (ddr.static_posterior_net, ddr.static_posterior_net, (), (features,)),
        "dynamic posterior": (ddr.dynamic_posterior_net, ddr.dynamic_posterior_net, (), (features, static)),
        "dynamic prior": (ddr.dynamic_prior_net, ddr.dynamic_prior_net, (), (static,)),
        "decoder": (ddr.decoder, log_likelihood, (targets,), (static, dynamic)),
    }


def _in_splits(function: Callable[..., Any], batch_splits: int) -> Callable[..., list[Any]]:
    """The function of equal splits of its inputs, as training computes them side by side."""

    def run(*inputs: tf.Tensor) -> list[Any]:
        splits = [tf.split(tensor, batch_splits) for tensor in inputs]
        return [function(*split) for split in zip(*splits, strict=True)]

    return run


def _with_gradient(layer: tf.Module, function: Callable[..., Any], num_fixed: int) -> Callable[..., Any]:
    """The gradient of a function by the weights of its layer, and by its inputs but for the first `num_fixed`."""

    def with_gradient(*inputs: tf.Tensor) -> list[tf.Tensor]:
        sources = [*inputs[num_fixed:], *(weight.value for weight in layer.trainable_variables)]
        with tf.GradientTape() as tape:
            tape.watch(inputs[num_fixed:])
            outputs = function(*inputs)
        return tape.gradient(outputs, sources, unconnected_gradients="zero")

    return with_gradient


def _update(ddr: DDR) -> Callable[[], Any]:
    """The optimizer's update by gradients of zero, so that the weights stay as they are."""
    gradients = [tf.zeros(weight.shape) for weight in ddr.trainable_variables]

    def update(*gradients: tf.Tensor) -> tf.Tensor:
        # Copies on the device of this replica, where the gradients of a step lie.
        share = 1 / ddr.distribute_strategy.num_replicas_in_sync
        return ddr.update([tf.identity(gradient) for gradient in gradients], share)

    return on_devices(ddr.distribute_strategy, update, gradients)


def on_devices(
    strategy: tf.distribute.Strategy, function: Callable[..., Any], inputs: Sequence[tf.Tensor]
) -> Callable[[], Any]:
    """The function compiled, to be run with these inputs on every device."""

    @tf.function
    def run(*inputs: tf.Tensor) -> Any:
        return strategy.run(function, args=inputs)

    compiled = run.get_concrete_function(*inputs)
    return lambda: compiled(*inputs)
