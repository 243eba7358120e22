"""From settings to a model that is ready for its first step."""

import math

import keras

from ddr_tf import runs, shipped
from ddr_tf.errors import UserError
from ddr_tf.memory import check_memory
from ddr_tf.model.ddr import DDR
from ddr_tf.training.devices import Devices
from ddr_tf.training.settings import Settings


def build(settings: Settings, devices: Devices, frame_shape: tuple[int, int, int]) -> DDR:
    """The model as it is before its first step, with its optimizer.

    With `initial_model` it has the networks and weights of that one, whatever `DDR` is set to, and no warm-up of the KL
    terms, since its codes carry something already.

    Args:
      settings: As of `train`.
      devices: What it will be trained on.
      frame_shape: (H, W, C) of the dataset.

    Raises:
      UserError: If a setting of the model is not possible, by itself or with these, or a batch is larger than memory.
    """
    devices.check_batch_size(settings.batch_size)
    count = settings.frames_per_step
    words = f"Batches of train.batch_size x train.num_frames = {settings.batch_size:,} x {settings.num_frames:,} frames"
    check_memory(4 * count * math.prod(frame_shape), words)
    with devices.strategy.scope():
        keras.utils.set_random_seed(settings.seed & 0x7FFFFFFF)
        ddr = _begin(settings, frame_shape)
        ddr.options.check_num_frames(settings.num_frames)
        ratio = settings.final_learning_rate / settings.learning_rate
        schedule = keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.steps, ratio)
        optimizer = settings.optimizer(schedule)
        _check_optimizer(optimizer)
        ddr.compile(optimizer=optimizer, jit_compile=False)
        ddr.optimizer.build(ddr.trainable_variables)
    return ddr


def _begin(settings: Settings, frame_shape: tuple[int, int, int]) -> DDR:
    given = settings.given_to_model
    if settings.initial_model is None:
        return settings.model(frame_shape=frame_shape, **given)
    initial = runs.load_keras_model(shipped.resolve(settings.initial_model))
    if initial.frame_shape != tuple(frame_shape):
        sizes = [" x ".join(map(str, shape)) for shape in (initial.frame_shape, frame_shape)]
        raise UserError(
            f"train.initial_model: the frames of {settings.initial_model} are {sizes[0]}, and those of the dataset "
            f"{sizes[1]}."
        )
    ddr = type(initial).from_config(initial.get_config() | given | {"kl_warmup_steps": 0})
    ddr.set_weights(initial.get_weights())
    return ddr


def _check_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Raises UserError for what only Keras's own loop does, and so would be without effect, or wrong."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise UserError("train.optimizer: the loss is not scaled, so LossScaleOptimizer cannot be used; leave it out.")
    for name in ("gradient_accumulation_steps", "use_ema"):
        if getattr(optimizer, name, None):
            raise UserError(f"train.optimizer: {name} is not possible here; leave it out.")
