"""Settings -> build -> fit: one function that turns a dataset and a model into a run directory."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import tensorflow as tf

from ddr_tf import config, files
from ddr_tf.data.augmentation import Augmentation, augmented
from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR
from ddr_tf.pictures import contact_sheets
from ddr_tf.runs import last_good, load_model
from ddr_tf.training.build import build
from ddr_tf.training.callbacks import Execution, HeldOut, Progress, StopIfNotFinite, TrainingLog
from ddr_tf.training.checkpoints import steps_done
from ddr_tf.training.devices import Devices, make_devices
from ddr_tf.training.fitted_densities import fitted_densities
from ddr_tf.training.optimizers import Adam
from ddr_tf.training.run_directory import Run
from ddr_tf.training.settings import Settings, as_in_gin
from ddr_tf.training.signals import Stop
from ddr_tf.training.steps import Evaluation, train_function

ENOUGH_SEQUENCES = {TRAIN: 50, HELD_OUT: 10}  # with fewer there is a warning


@config.configurable(not_in_gin=("run_dir", "devices"))
def train(
    run_dir: str,
    sequences: Callable[[], SequenceDataset] | SequenceDataset,
    steps: int,
    devices: Devices | None = None,
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
    augmentation: Callable[[], Augmentation] | None = None,
    smaller_config: str | None = None,
    initial_model: str | None = None,
    num_neighbours: int = 0,
    min_static_frames: int = 0,
) -> DDR:
    """Trains, or resumes, the run in `run_dir`, to its end.

    Args:
      run_dir: Folder of the run; made if it does not exist.
      sequences: The dataset, or what gives it.
      steps: Updates in total.
      devices: Of this machine or several, from `make_devices`; None: all of this one.
      model: Gives the model for the keywords `frame_shape`, `noise_seed` and `min_static_frames`: `DDR`, or a
        `functools.partial` of it.
      optimizer: Gives the optimizer for a schedule of the learning rate: `Adam` or `Muon`.
      batch_size: B, sequences a step, over all replicas.
      num_frames: N, frames of each sequence.
      learning_rate: At the first step.
      final_learning_rate: At the last step, along half a cosine; equal to `learning_rate`: constant.
      seed: Of the initial weights, the batches and the noise.
      checkpoint_every: Steps between checkpoints, each with a held-out evaluation and pictures.
      log_every: Steps that a line of `metrics.jsonl` averages.
      steps_per_execution: Most steps in one call of the compiled function.
      held_out_batches: Batches of the held-out evaluation; always the same ones.
      augmentation: Gives the random changes of training sequences; None: there are none.
      smaller_config: The gin file to suggest where this run would take days.
      num_neighbours: In half of the training sequences of each step, so many of the N frames are consecutive, and come
        first, so that with `min_static_frames` f is learnt from clips, too.
      min_static_frames: If above 0, each step computes f from a random number of the first frames, at least this, and
        decodes all of them; see `DDR`.
      initial_model: A finished run, a `.keras` file, or an exported model that holds one, to begin from; see `build`.

    Returns:
      The model at the step whose held-out ELBO was best.

    Raises:
      UserError: If a setting is not possible, `run_dir` holds a run with other settings or is being trained by another
        process, a metric became NaN or infinite, or the data could not be read any more.
      KeyboardInterrupt: If the process was told to stop; there is a checkpoint of the last step then.
    """
    given = locals()
    settings = Settings(**{name: given[name] for name in Settings.__dataclass_fields__})
    directory = _run_directory(run_dir)
    views = settings.augmentation is not None
    devices = devices or make_devices(batch_sizes=[settings.batch_size], views=views)
    devices.check_batch_size(settings.batch_size, views)
    dataset = sequences if isinstance(sequences, SequenceDataset) else sequences()
    augmentation = settings.augmentation and settings.augmentation()
    ddr = build(settings, devices, dataset.frame_shape)
    # Everything that gin gives settings to has been made, so that the run's record has them all from the first on.
    recorded = config.operative() if config.is_called("train") else as_in_gin(settings, ddr, dataset, augmentation)
    run = Run(directory, settings.seed, dataset, devices, recorded)
    with run.opened(ddr, settings.steps) as start:
        if run.finished:
            print(f"{run_dir} has already finished its {start} steps.", flush=True)
            finished = load_model(directory)
            ddr.set_weights(finished.get_weights())
            ddr.static_density, ddr.dynamic_density = finished.static_density, finished.dynamic_density
        else:
            fit(Training(settings, devices, dataset, augmentation, ddr, run), start)
    return ddr


def _run_directory(path: str) -> Path:
    directory = files.local_path(path)
    try:
        str(directory.absolute()).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"The name of the run directory {path!r} is no text in UTF-8; give another.") from error
    return directory


class Training(NamedTuple):
    """A run that is built and opened."""

    settings: Settings
    devices: Devices
    dataset: SequenceDataset
    augmentation: Augmentation | None
    ddr: DDR
    run: Run

    def batches(self, split: str, start_step: int = 0, **which: int) -> tf.data.Dataset:
        """The stream of batches of a split; see `SequenceDataset.batches`."""
        settings = self.settings
        return self.dataset.batches(split, settings.batch_size, settings.num_frames, settings.seed, start_step, **which)

    def batches_of_worker(self, split: str, start_step: int = 0, **which: int) -> tf.data.Dataset:
        """The part of `batches` that is for this worker."""
        devices = self.devices
        return self.batches(split, start_step, worker=devices.worker, num_workers=devices.num_workers, **which)

    def training_batches(self, start_step: int) -> tf.data.Dataset:
        """The stream of training batches for this worker, augmented if the settings say so."""
        settings, devices = self.settings, self.devices
        batches = self.batches_of_worker(TRAIN, start_step, num_neighbours=settings.num_neighbours)
        if not self.augmentation:
            return batches
        return augmented(batches, self.augmentation, settings.seed, start_step, devices.worker, devices.num_workers)


def fit(training: Training, start: int) -> None:
    """Trains from a step to the end, and writes the final model.

    Args:
      training: What to train.
      start: The step that the model is at.

    Raises:
      UserError, KeyboardInterrupt: As of `train`.
    """
    settings, ddr, run = training.settings, training.ddr, training.run
    with _data_errors(training.dataset, run):
        shown = _draw_shown(training)
        if start < settings.steps:  # otherwise the run was stopped between the last checkpoint and the final model
            _run_steps(training, start, shown)
    run.use_best(ddr)
    with _data_errors(training.dataset, run):
        densities = fitted_densities(ddr, training.dataset, settings.num_frames, settings.seed)
        ddr.static_density, ddr.dynamic_density = densities
    run.finish(ddr, settings.steps, contact_sheets.contact_sheets(ddr, shown, settings.seed))


def _draw_shown(training: Training) -> contact_sheets.Shown:
    dataset = training.dataset
    try:
        return contact_sheets.draw_shown(dataset, training.settings.seed)
    except UserError as error:  # errors of data that have changed
        reason = str(error).rstrip(".")
        raise UserError(
            f"{dataset.name} cannot be read any more ({reason}); {last_good(training.run.shared)}."
        ) from error


def _run_steps(training: Training, start: int, shown: contact_sheets.Shown) -> None:
    settings, devices, ddr = training.settings, training.devices, training.ddr
    batches = iter(training.training_batches(start))
    function = train_function(ddr, settings.execution_steps(start), devices.batch_splits)
    progress = None
    if devices.worker == 0:
        print(_what_is_trained(training, start), flush=True)
        _warn_of_few_sequences(training.dataset)
        progress = Progress(start, settings)
    log = TrainingLog(training.run, settings, ddr)
    callbacks = [StopIfNotFinite(training.run), *([progress] if progress else []), log]
    callbacks.append(_held_out(training, shown, log))
    step = start
    try:
        with Stop(devices) as stop:
            while step < settings.steps:
                begun = time.perf_counter()
                metrics = {name: float(value) for name, value in function(batches).items()}
                steps, step = steps_done(ddr) - step, steps_done(ddr)
                execution = Execution(step, steps, metrics, time.perf_counter() - begun)
                for callback in callbacks:
                    callback.after(execution)
                if stop.requested and step < settings.steps:
                    training.run.save(step, None, log.state)
                    raise KeyboardInterrupt
    finally:
        if progress:
            progress.close()


def _held_out(training: Training, shown: contact_sheets.Shown, log: TrainingLog) -> HeldOut:
    settings, ddr = training.settings, training.ddr
    evaluation = Evaluation(ddr, training.batches_of_worker(HELD_OUT), settings.held_out_batches)
    encoded = training.batches(HELD_OUT).take(settings.held_out_batches)
    return HeldOut(training.run, settings, ddr, evaluation, encoded, shown, log)


def _what_is_trained(training: Training, start: int) -> str:
    dataset, devices = training.dataset, training.devices
    counts = [len(dataset.splits[split]) for split in (TRAIN, HELD_OUT)]
    return (
        f"{dataset.name}: {counts[0]} train and {counts[1]} held-out sequences; {training.ddr.count_params():,} "
        f"parameters; steps {start} to {training.settings.steps} on {devices.num_replicas} device(s), "
        f"{devices.batch_splits} split(s) of a batch side by side on each; run directory {training.run.shared}"
    )


def _warn_of_few_sequences(dataset: SequenceDataset) -> None:
    counts = {split: len(dataset.splits[split]) for split in ENOUGH_SEQUENCES}
    if any(counts[split] < enough for split, enough in ENOUGH_SEQUENCES.items()):
        print(
            f"warning: {counts[TRAIN]} training and {counts[HELD_OUT]} held-out sequences are few; f learns what "
            f"differs between sequences from {ENOUGH_SEQUENCES[TRAIN]} or more, and metrics mean something from "
            f"{ENOUGH_SEQUENCES[HELD_OUT]} held-out ones.",
            file=sys.stderr,
            flush=True,
        )


@contextlib.contextmanager
def _data_errors(dataset: SequenceDataset, run: Run) -> Iterator[None]:
    """Turns files that vanish or prove damaged into a `UserError`."""
    try:
        yield
    except (tf.errors.OpError, UnicodeDecodeError) as error:  # the second if TensorFlow quotes what it cannot parse
        if isinstance(error, (tf.errors.NotFoundError, tf.errors.DataLossError)):
            # In a compiled step it comes after a stack, before the names of nodes.
            lines = error.message.partition("\n\t [[")[0].splitlines()
            reason = lines[-1] if lines[0].startswith("Graph execution error") else lines[0]
            message = f"{dataset.name} cannot be read any more ({reason})"
        elif damage := dataset.damage():  # wrong content with correct checksums
            message = damage.rstrip(".")
        else:
            raise
        raise UserError(f"{message}; {last_good(run.shared)}.") from error
