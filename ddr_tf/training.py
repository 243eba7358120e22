"""Strategy, compile, fit, callbacks, resume: one function that turns a dataset and a model into a run directory.

A run directory holds

    config.gin                the operative gin config
    run.json                  versions, seed, command, progress
    dataset.json              name, licence and split of the data
    checkpoints/last, best    the newest, and the best by held-out ELBO
    metrics.jsonl             an object a line, each with "step" and "split"
    logs/train, logs/held_out TensorBoard
    model.keras, *.png        when it has finished
"""

import atexit
import contextlib
import functools
import json
import math
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

import ddr_tf
from ddr_tf import config, distribution, figures, metrics
from ddr_tf.data.sequences import HELD_OUT, TRAIN, Sequences
from ddr_tf.elbo import bits_per_dim
from ddr_tf.errors import UserError
from ddr_tf.model import DDR, FIGURES
from ddr_tf.optimizers import Adam

DATASET, RECORD = "dataset.json", "run.json"
SLOW_RUN_SECONDS = 24 * 3600
ESTIMATE_AFTER_SECONDS = 20
# Where things are on a machine; may differ between those that train together.
OF_A_MACHINE = {"data_dir", "AffWild.cache_dir", "FrameFolders.cache_dir"}
# Settings that a resumed run may change: they do not alter what a step does. (`train.steps` alters the schedule of
# the learning rate unless it is constant; continuing for longer is worth that.)
MAY_CHANGE = OF_A_MACHINE | {
    f"train.{name}" for name in ("steps", "checkpoint_every", "log_every", "steps_per_execution", "smaller_config")
}


@config.configurable(not_in_gin=("run_dir", "strategy"))
def train(
    run_dir: str,
    sequences: Callable[[], Sequences],
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
    strategy = strategy or distribution.make_strategy(batch_sizes=[batch_size])
    distribution.check_batch_size(strategy, batch_size)
    replicas = strategy.num_replicas_in_sync
    chief = distribution.worker(strategy) == 0
    dataset = sequences()
    ddr = compiled_model(
        strategy, model, dataset.frame_shape, num_frames, optimizer, steps, learning_rate, final_learning_rate, seed
    )

    ddr.num_shares = distribution.num_shares(strategy, batch_size)

    run = Run(Path(run_dir), seed, dataset.fingerprint(), strategy)
    start = run.open(ddr, steps)
    (run.directory / DATASET).write_text(json.dumps(dataset.description(), indent=2) + "\n")
    if run.finished:
        print(f"{run_dir} has already finished its {steps} steps.", flush=True)
        return ddr
    with _data_errors(dataset, run):
        shown = dataset.batches(HELD_OUT, batch_size=8, num_frames=8, seed=seed).take(1).get_single_element()
    if start >= steps:  # stopped between the last checkpoint and the final model
        run.finish(ddr, figures.contact_sheets(ddr, shown, seed))
        return ddr
    ddr.steps_per_execution = math.gcd(steps_per_execution, steps - start, checkpoint_every, log_every, start)
    share = functools.partial(dataset.batches, batch_size=batch_size, num_frames=num_frames, seed=seed)
    batches = distribution.distributed(strategy, functools.partial(share, TRAIN, start_step=start))
    held_out = distribution.distributed(strategy, functools.partial(share, HELD_OUT))
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
            f"{ddr.num_shares} share(s) of a batch side by side on each; run directory {run_dir}",
            flush=True,
        )
        callbacks.insert(1, Progress(start, steps, batch_size * num_frames, smaller_config))
    with _data_errors(dataset, run):
        ddr.fit(batches, steps_per_epoch=steps - start, callbacks=callbacks, shuffle=False, verbose=0)
    run.finish(ddr, figures.contact_sheets(ddr, shown, seed))
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
def _data_errors(dataset: Sequences, run: "Run") -> Iterator[None]:
    """Turns files that vanish or prove damaged into a `UserError`."""
    try:
        yield
    except (tf.errors.NotFoundError, tf.errors.DataLossError) as error:
        # In a compiled step it comes after a stack, before the names of nodes.
        lines = error.message.partition("\n\t [[")[0].splitlines()
        reason = lines[-1] if lines[0].startswith("Graph execution error") else lines[0]
        raise UserError(f"{dataset.name} cannot be read any more ({reason}); {last_good(run.shared)}.") from error


def newest_checkpoint(run_dir: Path) -> str | None:
    """Where a run resumes; None: there is no checkpoint."""
    return tf.train.latest_checkpoint(str(run_dir / "checkpoints" / "last"))


def last_good(run_dir: Path) -> str:
    """What to tell those whose run went wrong about its checkpoints."""
    path = newest_checkpoint(run_dir)
    return f"the last good checkpoint is {path}" if path else "there was no checkpoint yet"


def steps_done(ddr: DDR) -> int:
    """Updates that the model has had."""
    return int(keras.ops.convert_to_numpy(ddr.optimizer.iterations))


def _check_same_data(run_dir: Path, record: dict[str, Any], data: str) -> None:
    if record.get("data") != data:
        raise UserError(
            f"The data have changed since {run_dir} was begun: there are other sequences or frames now, or others are "
            "held out. Bring back the data, or give another --run_dir."
        )


def load_model(run_dir: Path) -> DDR:
    """The final model of a run; the dataset need not be there.

    Raises:
      UserError: If the run has not finished, or the file is damaged or of another version of this package.
    """
    path = run_dir / "model.keras"
    if not path.is_file():
        raise UserError(f"{run_dir} holds no finished run (there is no model.keras in it).")
    try:
        return keras.models.load_model(path, compile=False)  # to be used, not trained on
    except (ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path} cannot be read by ddr_tf {ddr_tf.__version__} ({reason}); run.json beside it says which version "
            "wrote it."
        ) from error


def read_record(run_dir: Path) -> dict[str, Any]:
    """`run.json`.

    Raises:
      UserError: If it cannot be read.
    """
    try:
        return json.loads((run_dir / "run.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{run_dir / 'run.json'} cannot be read ({error}).") from error


def load_sequences(directory: Path, data_dir: str | None = None) -> Sequences:
    """The dataset that a run was trained on.

    Args:
      directory: Holds `config.gin` and `run.json` of the run.
      data_dir: Where datasets are; None: where the run had them.

    Raises:
      UserError: If the sequences are others now, so that held-out ones may have been trained on.
    """
    record = read_record(directory)
    config.load([str(directory / "config.gin")], data_dir=data_dir)
    sequences = config.bound("train.sequences")()
    _check_same_data(directory, record, sequences.fingerprint())
    return sequences


def load_run(run_dir: Path, data_dir: str | None = None) -> tuple[DDR, Sequences]:
    """The final model of a run and the dataset that it was trained on.

    Raises:
      UserError: If the run has not finished; or as `load_sequences`.
    """
    model = load_model(run_dir)
    return model, load_sequences(run_dir, data_dir)


def peak_memory_mb() -> float:
    """The most memory that this process has had resident so far, in megabytes (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def cost(run_dir: Path, model: DDR) -> dict[str, float]:
    """What a finished run took, as far as it was recorded.

    Returns:
      `parameters`; `training_minutes` without evaluations and checkpoints; `training_frames_per_second`, the median;
      `training_peak_memory_mb`, of the whole process.

    Raises:
      UserError: If `run.json` or `metrics.jsonl` cannot be read.
    """
    record = read_record(run_dir)
    try:
        lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{run_dir / 'metrics.jsonl'} cannot be read ({error}).") from error
    speeds = [line["frames_per_second"] for line in lines if line["split"] == TRAIN]
    found = {
        "parameters": model.count_params(),
        "training_minutes": record.get("training_minutes"),
        "training_frames_per_second": float(np.median(speeds)) if speeds else None,
        "training_peak_memory_mb": record.get("peak_memory_mb"),
    }
    return {name: value for name, value in found.items() if value is not None}


class Run:
    """The run directory: what is written to it, and what a resumed run finds there.

    All workers do the same, since reading the variables of a metric needs them all, but only what the chief writes is
    kept.
    """

    def __init__(self, directory: Path, seed: int, data: str, strategy: tf.distribute.Strategy) -> None:
        """Args: data: the fingerprint of the dataset; strategy: tells whether this is the chief."""
        self.shared = directory  # what was there before is read here
        self._strategy = strategy
        self.directory = directory
        if distribution.worker(strategy):
            self.directory = Path(tempfile.mkdtemp(prefix="ddr_tf_"))
            atexit.register(shutil.rmtree, self.directory, ignore_errors=True)
        self._data = data
        self.metrics_path = self.directory / "metrics.jsonl"
        self._seed = seed
        self._peak_memory_mb = 0  # of the sessions before
        self.finished = False  # all steps done and everything written
        self.best_elbo = tf.Variable(-math.inf, dtype=tf.float64)
        self.seconds = tf.Variable(0.0, dtype=tf.float64)  # of training, over all sessions of this run

    def open(self, ddr: DDR, steps: int) -> int:
        """Makes or checks the directory, restores the newest checkpoint into the model; returns the step it is at.

        Raises:
          UserError: If the directory cannot be written, or holds a run with other settings.
        """
        settings = config.operative()
        try:
            self.shared.mkdir(parents=True, exist_ok=True)
            record_path = self.shared / RECORD
            record = json.loads(record_path.read_text()) if record_path.exists() else None
            if record is None and any(self.shared.iterdir()):
                raise UserError(f"{self.shared} is not empty and holds no run; give another --run_dir.")
            before = record["settings"] if record else settings
            # What was not a setting yet when the run was begun was as it is by default now.
            before = {name: value for name, value in settings.items() if config.is_default(name, value)} | before
            changed = sorted(name for name in before.keys() | settings.keys() if before.get(name) != settings.get(name))
            changed = [name for name in changed if name not in MAY_CHANGE]
            if changed:
                name = changed[0]
                more = f", and {len(changed) - 1} more" if changed[1:] else ""
                raise UserError(
                    f"{self.shared} holds a run with other settings ({name} was {before.get(name)}, now "
                    f"{settings.get(name)}{more}); give another --run_dir."
                )
            if record:
                version = record["versions"]["ddr_tf"]
                if version != ddr_tf.__version__:
                    raise UserError(
                        f"{self.shared} holds a run of ddr_tf {version}, whose networks are not those of "
                        f"{ddr_tf.__version__}; give another --run_dir."
                    )
                _check_same_data(self.shared, record, self._data)
                self._peak_memory_mb = record.get("peak_memory_mb", 0)
            self._checkpoint = tf.train.Checkpoint(model=ddr, best_elbo=self.best_elbo, seconds=self.seconds)
            self._last, self._best = (
                tf.train.CheckpointManager(self._checkpoint, str(self.directory / "checkpoints" / name), max_to_keep=1)
                for name in ("last", "best")
            )
            if newest := newest_checkpoint(self.shared):
                self._restore(newest)
            step = steps_done(ddr)
            common = {name: value for name, value in settings.items() if name not in OF_A_MACHINE}
            same = {"their settings": common, "the sequences found": self._data, "the step of the checkpoint": step}
            distribution.check_same(self._strategy, same)  # also keeps the chief from writing before all have read
            self.finished = bool(record and record["finished"] and record["step"] == step and step >= steps)
            self._forget_after(step)
            (self.directory / "config.gin").write_text(config.operative_text())
            self._write_record(settings, step, self.finished)
        except (OSError, json.JSONDecodeError) as error:
            raise UserError(f"The run directory {self.shared} cannot be used: {error}.") from error
        self.train_writer, self.held_out_writer = (
            tf.summary.create_file_writer(str(self.directory / "logs" / split)) for split in (TRAIN, HELD_OUT)
        )
        with self.train_writer.as_default():
            tf.summary.text(
                "config", "\n".join(f"    {line}" for line in config.operative_text().splitlines()), step=step
            )
        return step

    def _restore(self, path: str) -> None:
        try:
            self._checkpoint.restore(path).assert_consumed()
        except (tf.errors.OpError, IndexError, RuntimeError, ValueError, AssertionError) as error:  # all seen from here
            reason = str(error).splitlines()[0]
            raise UserError(
                f"The checkpoint {path} cannot be read ({reason}); put checkpoints/best in its place, or give "
                "another --run_dir."
            ) from error

    def _forget_after(self, step: int) -> None:
        """Drops the lines of `metrics.jsonl` that a resumed run will write again, and a line cut short by a kill."""
        if not self.metrics_path.exists():
            return
        kept = []
        for line in self.metrics_path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except json.JSONDecodeError:
                continue
        self.metrics_path.write_text("".join(kept))

    def _write_record(self, settings: dict[str, str], step: int, finished: bool) -> None:
        packages = ("tensorflow", "keras", "tensorflow-probability", "numpy", "pillow", "gin-config")
        record = {
            "command": " ".join([Path(sys.executable).name, *sys.argv]),
            "seed": self._seed,
            "data": self._data,
            "step": step,
            "finished": finished,
            "training_minutes": round(float(self.seconds) / 60, 2),
            "peak_memory_mb": max(self._peak_memory_mb, round(peak_memory_mb())),
            "cpus": os.cpu_count(),
            "versions": {
                "ddr_tf": ddr_tf.__version__,
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in packages},
            },
            "settings": settings,
        }
        partial = (self.directory / RECORD).with_suffix(".part")
        partial.write_text(json.dumps(record, indent=2) + "\n")
        partial.replace(self.directory / RECORD)

    def log(self, split: str, step: int, values: dict[str, float]) -> None:
        """Appends one line to `metrics.jsonl` and the scalars to TensorBoard."""
        line = {"step": step, "split": split, "minutes": round(float(self.seconds) / 60, 3), **values}
        with self.metrics_path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        with (self.train_writer if split == TRAIN else self.held_out_writer).as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def log_images(self, step: int, sheets: dict[str, np.ndarray]) -> None:
        """Shows contact sheets in TensorBoard."""
        with self.held_out_writer.as_default(step=step):
            for name, sheet in sheets.items():
                tf.summary.image(name, sheet[None])
        self.held_out_writer.flush()

    def save(self, step: int, elbo: float) -> None:
        """Writes the last checkpoint, and the best if this held-out ELBO is."""
        better = elbo > float(self.best_elbo)
        if better:
            self.best_elbo.assign(elbo)
        self._last.save(checkpoint_number=step)
        if better:
            self._best.save(checkpoint_number=step)
        self._write_record(config.operative(), step, finished=False)

    def finish(self, ddr: DDR, sheets: dict[str, np.ndarray]) -> None:
        """Writes the final model and the contact sheets, and marks the run as finished."""
        ddr.save(self.directory / "model.keras")
        for name, sheet in sheets.items():
            Image.fromarray(sheet).save(self.directory / f"{name}.png")
        self._write_record(config.operative(), steps_done(ddr), finished=True)


class _StepCallback(keras.callbacks.Callback):
    """Calls `after_step(step, logs)` with the number of steps done, at multiples of `every` and after the last."""

    def __init__(self, every: int = 1, last: int | None = None) -> None:
        super().__init__()
        self._every, self._last = every, last

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        step = steps_done(self.model)
        if step % self._every == 0 or step == self._last:
            self.after_step(step, logs)

    def after_step(self, step: int, logs: dict[str, float]) -> None:
        raise NotImplementedError


def _check_finite(values: dict[str, float], where: str, run: Run) -> None:
    """Raises UserError naming the first term that is NaN or infinite; causes come before effects."""
    for name in ("reconstruction", "kl_static", "kl_dynamic", "elbo", "gradient_norm"):
        if name in values and not math.isfinite(values[name]):
            raise UserError(
                f"{name} became {values[name]} {where}; {last_good(run.shared)}. A lower train.learning_rate or "
                "DDR.gradient_clip_norm usually helps."
            )


class StopIfNotFinite(_StepCallback):
    """Stops the run at the step whose figures are NaN or infinite, before anything is written."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def after_step(self, step: int, logs: dict[str, float]) -> None:
        _check_finite(logs, f"at step {step}", self._run)


class Progress(_StepCallback):
    """One bar: steps, frames/s, ELBO in nats a frame, time left; and a warning if the run would take days."""

    def __init__(self, start: int, steps: int, frames_per_step: int, smaller_config: str | None) -> None:
        super().__init__()
        self._frames_per_step, self._smaller_config = frames_per_step, smaller_config
        interactive = sys.stderr.isatty()
        self._bar = tqdm(
            initial=start,
            total=steps,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.2 if interactive else 30.0,
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps{postfix} [{elapsed}, {remaining} left]",
        )
        self._steps = steps
        self._first: tuple[int, float] | None = None  # step and time after the first call, which compiles
        self._warned = False

    def after_step(self, step: int, logs: dict[str, float]) -> None:
        now = time.perf_counter()
        if self._first is None:
            self._first = (step, now)
            speed, rate = "compiled", math.nan
        else:
            rate = (step - self._first[0]) * self._frames_per_step / (now - self._first[1])
            speed = f"{rate:,.0f} frames/s"
        self._bar.set_postfix_str(f"{speed}, ELBO {logs['elbo']:,.1f} nats/frame", refresh=False)
        self._bar.update(step - self._bar.n)
        if not self._warned and now - self._first[1] > ESTIMATE_AFTER_SECONDS:
            self._warned = True
            seconds = (self._steps - step) * self._frames_per_step / rate
            if seconds > SLOW_RUN_SECONDS:
                smaller = f"; {self._smaller_config} is made for small machines" if self._smaller_config else ""
                self._bar.write(
                    f"warning: at {rate:,.0f} frames/s this run takes about {seconds / 86400:.1f} days on this "
                    f"machine{smaller}.",
                    file=sys.stderr,
                )

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._bar.close()


class TrainingLog(_StepCallback):
    """Means over the last `every` steps, and frames/s without evaluation and checkpoints."""

    def __init__(self, run: Run, every: int, frames_per_step: int) -> None:
        super().__init__()
        self._run, self._log_every, self._frames_per_step = run, every, frames_per_step
        self._sums: dict[str, float] = {}
        self._calls, self._seconds, self._begun = 0, 0.0, 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._begun = time.perf_counter()

    def after_step(self, step: int, logs: dict[str, float]) -> None:
        self._run.seconds.assign_add(time.perf_counter() - self._begun)
        self._seconds += time.perf_counter() - self._begun
        self._calls += 1
        for name, value in logs.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
        if step % self._log_every == 0:
            values = {name: value / self._calls for name, value in self._sums.items()}
            values["bits_per_dim"] = bits_per_dim(values["elbo"], self.model.frame_shape)
            steps = self._calls * self.model.steps_per_execution
            values["frames_per_second"] = steps * self._frames_per_step / self._seconds
            self._run.log(TRAIN, step, values)
            self._sums, self._calls, self._seconds = {}, 0, 0.0


class HeldOut(_StepCallback):
    """Held-out figures, pictures and checkpoints, every so many steps and at the end."""

    def __init__(
        self,
        run: Run,
        batches: tf.distribute.DistributedDataset,
        num_batches: int,
        encoded: tf.data.Dataset,
        shown: tf.Tensor,
        every: int,
        steps: int,
        seed: int,
    ) -> None:
        """Args: encoded: batches for `active_units`; shown: frames for pictures."""
        super().__init__(every, last=steps)
        self._run, self._batches, self._num_batches = run, batches, num_batches
        self._encoded, self._shown, self._seed = encoded, shown, seed

    def after_step(self, step: int, logs: dict[str, float]) -> None:
        values = self.model.evaluate(self._batches, steps=self._num_batches, return_dict=True, verbose=0)
        values = {name: float(values[name]) for name in FIGURES}
        _check_finite(values, f"on held-out sequences after step {step}", self._run)
        values["bits_per_dim"] = bits_per_dim(values["elbo"], self.model.frame_shape)
        values |= active_units(self.model, self._encoded)
        self._run.log(HELD_OUT, step, values)
        self._run.log_images(step, figures.contact_sheets(self.model, self._shown, self._seed))
        self._run.save(step, values["elbo"])


def active_units(ddr: DDR, batches: tf.data.Dataset) -> dict[str, int]:
    """How many units of f vary between sequences, and of z between frames; see `metrics.active_units`."""
    codes = [ddr.encode(frames) for frames in batches]
    static = np.concatenate([code["static_mean"] for code in codes])
    dynamic = np.concatenate([np.reshape(code["dynamic_mean"], (-1, ddr.dynamic_dim)) for code in codes])
    return {
        "active_units_static": metrics.active_units(static),
        "active_units_dynamic": metrics.active_units(dynamic),
    }
