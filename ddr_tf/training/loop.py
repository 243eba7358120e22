"""Strategy, compile, fit, callbacks, resume: one function that turns a dataset and a model into a run directory."""

import contextlib
import functools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import tensorflow as tf

from ddr_tf import config
from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR
from ddr_tf.pictures import contact_sheets
from ddr_tf.runs import DATASET, last_good
from ddr_tf.training import devices
from ddr_tf.training.callbacks import HeldOut, Progress, StopIfNotFinite, TrainingLog
from ddr_tf.training.optimizers import Adam
from ddr_tf.training.run_directory import Run


@config.configurable(not_in_gin=("run_dir", "strategy"))
def train(
    run_dir: str,
    sequences: Callable[[], SequenceDataset],
    steps: int,
    strategy: tf.distribute.Strategy | None = None,
    model: Callable[..., DDR] = DDR,
    optimizer: Callable[..., keras.optimizers.Optimizer] = Adam,
    batch_size: int = 16,
    num_frames: int = 8,
    learning_rate: float = 1e-3,
    final_learning_rate: float = 1e-3,
    seed: int = 0,
    checkpoint_every: int = 1000,
    log_every: int = 100,
    steps_per_execution: int = 10,
    held_out_batches: int = 10,
    smaller_config: str | None = None,
) -> DDR:
    """Trains, or resumes, the run in `run_dir`, to its end.

    Args:
      run_dir: Folder of the run; made if it does not exist.
      sequences: Gives the dataset.
      steps: Updates in total.
      strategy: The devices, of this machine or several, of `distribution.make_strategy`; None: all of this one.
      model: Gives the model for `frame_shape` and `noise_seed`.
      batch_size: B, sequences a step, over all replicas.
      num_frames: N, frames of each sequence.
      optimizer: Gives the optimizer for a schedule of the learning rate: `Adam` or `Muon`.
      learning_rate: At the first step.
      final_learning_rate: At the last step, along half a cosine; equal to `learning_rate`: constant.
      seed: Of the initial weights, the batches and the noise.
      checkpoint_every: Steps between checkpoints, each with a held-out evaluation and pictures.
      log_every: Steps that a line of `metrics.jsonl` averages.
      steps_per_execution: Most steps in one call of the compiled function.
      held_out_batches: Batches of the held-out evaluation; always the same ones.
      smaller_config: What to suggest to those whom this run would take days.

    Returns:
      The trained model.

    Raises:
      UserError: If a setting is not possible, `run_dir` holds a run with other settings, or a figure became NaN or
        infinite, or the data could not be read any more.
    """
    counts = dict(steps=steps, batch_size=batch_size, num_frames=num_frames, checkpoint_every=checkpoint_every)
    counts |= dict(log_every=log_every, steps_per_execution=steps_per_execution, held_out_batches=held_out_batches)
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"train.{name} must be at least 1, got {count}.")
    for name, rate in dict(learning_rate=learning_rate, final_learning_rate=final_learning_rate).items():
        if not 0 < rate < math.inf:
            raise UserError(f"train.{name} must be above 0, got {rate}.")
    strategy = strategy or devices.make_strategy(batch_sizes=[batch_size])
    devices.check_batch_size(strategy, batch_size)
    replicas = strategy.num_replicas_in_sync
    chief = devices.worker(strategy) == 0
    dataset = sequences()
    ddr = compiled_model(
        strategy, model, dataset.frame_shape, num_frames, optimizer, steps, learning_rate, final_learning_rate, seed
    )

    ddr.batch_splits = devices.batch_splits(strategy, batch_size)

    run = Run(Path(run_dir), seed, dataset.fingerprint(), strategy)
    start = run.open(ddr, steps)
    (run.directory / DATASET).write_text(json.dumps(dataset.description(), indent=2) + "\n")
    if run.finished:
        print(f"{run_dir} has already finished its {steps} steps.", flush=True)
        return ddr
    with _data_errors(dataset, run):
        shown = dataset.batches(HELD_OUT, batch_size=8, num_frames=8, seed=seed).take(1).get_single_element()
    if start >= steps:  # stopped between the last checkpoint and the final model
        run.finish(ddr, contact_sheets.contact_sheets(ddr, shown, seed))
        return ddr
    ddr.steps_per_execution = math.gcd(steps_per_execution, steps - start, checkpoint_every, log_every, start)
    share = functools.partial(dataset.batches, batch_size=batch_size, num_frames=num_frames, seed=seed)
    batches = devices.distributed(strategy, functools.partial(share, TRAIN, start_step=start))
    held_out = devices.distributed(strategy, functools.partial(share, HELD_OUT))
    encoded = share(HELD_OUT).take(held_out_batches)
    callbacks = [
        StopIfNotFinite(run),
        TrainingLog(run, log_every, batch_size * num_frames),
        HeldOut(run, held_out, held_out_batches, encoded, shown, checkpoint_every, steps, seed),
    ]
    if chief:
        print(
            f"{dataset.name}: {len(dataset.splits[TRAIN])} train and {len(dataset.splits[HELD_OUT])} held-out "
            f"sequences; {ddr.count_params():,} parameters; steps {start} to {steps} on {replicas} device(s), "
            f"{ddr.batch_splits} share(s) of a batch side by side on each; run directory {run_dir}",
            flush=True,
        )
        callbacks.insert(1, Progress(start, steps, batch_size * num_frames, smaller_config))
    with _data_errors(dataset, run):
        ddr.fit(batches, steps_per_epoch=steps - start, callbacks=callbacks, shuffle=False, verbose=0)
    run.finish(ddr, contact_sheets.contact_sheets(ddr, shown, seed))
    return ddr


def compiled_model(
    strategy: tf.distribute.Strategy,
    model: Callable[..., DDR],
    frame_shape: tuple[int, int, int],
    num_frames: int,
    optimizer: Callable[..., keras.optimizers.Optimizer],
    steps: int,
    learning_rate: float,
    final_learning_rate: float,
    seed: int,
) -> DDR:
    """The model as it is before its first step, with its optimizer; the arguments are those of `train`.

    Raises:
      UserError: If a setting of the model is not possible, by itself or with these.
    """
    with strategy.scope():
        keras.utils.set_random_seed(seed & 0x7FFFFFFF)
        ddr = model(frame_shape=frame_shape, noise_seed=seed)
        if ddr.num_static_frames >= num_frames:
            raise UserError(
                f"DDR.num_static_frames must leave frames to decode: it is {ddr.num_static_frames}, and "
                f"train.num_frames {num_frames}."
            )
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps, final_learning_rate / learning_rate)
        ddr.compile(optimizer=optimizer(schedule), jit_compile=False)
        ddr.optimizer.build(ddr.trainable_variables)
    return ddr


@contextlib.contextmanager
def _data_errors(dataset: SequenceDataset, run: "Run") -> Iterator[None]:
    """Turns files that vanish or prove damaged into a `UserError`."""
    try:
        yield
    except (tf.errors.NotFoundError, tf.errors.DataLossError) as error:
        # In a compiled step it comes after a stack, before the names of nodes.
        lines = error.message.partition("\n\t [[")[0].splitlines()
        reason = lines[-1] if lines[0].startswith("Graph execution error") else lines[0]
        raise UserError(f"{dataset.name} cannot be read any more ({reason}); {last_good(run.shared)}.") from error
