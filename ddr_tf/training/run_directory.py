"""Writes a run directory, whose files `runs` lists, and restores what a resumed run finds in it."""

import ast
import atexit
import contextlib
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.plugins.hparams import api as hparams

import ddr_tf
from ddr_tf import config, files, runs
from ddr_tf.data.recipe import recipe
from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.model.bounds import BOUND_METRICS
from ddr_tf.model.ddr import DDR
from ddr_tf.runs import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    DATASET,
    LAST,
    LOCK,
    LOGS,
    METRICS,
    MODEL,
    MODEL_LAST,
    OF_A_MACHINE,
    RECIPE,
    RECORD,
    Checkpoint,
    write_densities,
)
from ddr_tf.training.checkpoints import Checkpoints, steps_done
from ddr_tf.training.devices import Devices
from ddr_tf.training.events import forget_events_after
from ddr_tf.training.projector import write_projector

try:
    import resource
except ImportError:  # Windows
    resource = None

# Versions whose networks, optimizers and checkpoints are those of this one.
SAME_NETWORKS = ("0.2", "0.3")
# Settings that a resumed run may change: they do not alter what a step does. (`train.steps` alters the schedule of
# the learning rate unless it is constant; continuing for longer is worth that.)
MAY_CHANGE = OF_A_MACHINE | {
    f"train.{name}" for name in ("steps", "checkpoint_every", "log_every", "steps_per_execution", "smaller_config")
}
PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy", "pillow", "gin-config")


def peak_memory_mb() -> float:
    """The most memory that this process has had resident so far, in megabytes (10^6 bytes); 0: Windows does not say."""
    if resource is None:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Run:
    """The run directory: what is written to it, and what a resumed run finds there.

    All workers do the same, since reading the variables of a metric needs them all, but only what the chief writes is
    kept.

    Attributes:
      shared: The run directory; what was there before is read here.
      finished: All steps are done and everything is written.
    """

    def __init__(
        self, directory: Path, seed: int, dataset: SequenceDataset, devices: Devices, settings: dict[str, str]
    ) -> None:
        """Args: seed: Of `train`; devices: tell whether this is the chief; settings: as `config.operative` has them."""
        self.shared, self._directory = directory, directory
        self._devices, self._seed, self._dataset, self._settings = devices, seed, dataset, settings
        self._data = dataset.fingerprint()
        self._lock: files.Lock | None = None
        if devices.worker:
            self._directory = Path(tempfile.mkdtemp(prefix="ddr_tf_"))
            atexit.register(shutil.rmtree, self._directory, ignore_errors=True)
        self._peak_memory_mb = 0  # of earlier sessions
        self.finished = False
        self.best_step: int | None = None  # whose held-out ELBO was best, when all are done
        self._was_measured = False  # on held-out sequences, at the checkpoint that was restored
        self.log_state: dict[str, Any] = {}  # what `TrainingLog` had gathered at the checkpoint that was restored

    @contextlib.contextmanager
    def opened(self, ddr: DDR, steps: int) -> Iterator[int]:
        """Makes or checks the directory, and restores the newest checkpoint into the model.

        Yields:
          The step that the model is at. The directory is this process's until the block ends.

        Raises:
          UserError: If the directory cannot be written, holds a run with other settings, or is another process's.
        """
        with self._errors():
            record = self._existing_record()
            self._check_settings(record)
            self._take_lock()
        try:
            with self._errors():
                step = self._restore(ddr, record, steps)
                self._check_workers(step)
                self._forget_after(step)
                self._write_beginning(step)
            yield step
        finally:
            if self._lock:
                self._lock.release()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns an `OSError` into a `UserError`."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"The run directory {self.shared} cannot be used ({error}); {runs.last_good(self.shared)}."
            ) from error

    def _existing_record(self) -> dict[str, Any] | None:
        """`run.json`; None: a run begins here. Makes the directory."""
        self.shared.mkdir(parents=True, exist_ok=True)
        if (self.shared / RECORD).exists():
            record = runs.read_record(self.shared)
            self._peak_memory_mb = record.get("peak_memory_mb") or 0
            self.best_step = record.get("best_step")
            return record
        names = {path.name for path in self.shared.iterdir() if not path.name.startswith(files.PREFIX)} - {LOCK}
        if names:
            if names & {CONFIG, METRICS, MODEL}:
                raise UserError(f"{self.shared} holds a run without its run.json; bring that back from a copy.")
            raise UserError(f"{self.shared} is not empty and holds no run; give another --run_dir.")
        return None

    def _check_settings(self, record: dict[str, Any] | None) -> None:
        """Raises UserError unless the settings are those that the run was begun with, of the same networks and data."""
        if record is None or not (record["step"] or any((self.shared / CHECKPOINTS).glob("*/*"))):
            return  # what ended before its first checkpoint may begin anew with any settings
        settings = self._settings
        # A setting that did not exist when the run began had the value that is the default now.
        before = {name: value for name, value in settings.items() if config.is_default(name, value)}
        before |= record["settings"]
        changed = sorted(name for name in before.keys() | settings.keys() if before.get(name) != settings.get(name))
        changed = [name for name in changed if name not in MAY_CHANGE]
        if changed and record["settings"]:  # before 0.3.0, runs that were started from Python kept none
            name, more = changed[0], f", and {len(changed) - 1} more" if changed[1:] else ""
            raise UserError(
                f"{self.shared} holds a run with other settings ({name} was {before.get(name)}, now "
                f"{settings.get(name)}{more}); give another --run_dir."
            )
        version = str(record["versions"].get("ddr_tf"))
        if ".".join(version.split(".")[:2]) not in SAME_NETWORKS:
            raise UserError(
                f"{self.shared} holds a run of ddr_tf {version}, whose networks are not those of "
                f"{ddr_tf.__version__}; give another --run_dir."
            )
        runs.check_same_data(self.shared, record, self._dataset)

    def _take_lock(self) -> None:
        """Keeps other processes out of the directory, and removes what killed ones have left."""
        if self._devices.worker:
            return
        self._lock = files.Lock(self.shared / LOCK)
        if not self._lock.acquire():
            raise UserError(f"{self.shared} is being trained by another process; wait for it, or end it first.")
        logs, checkpoints = self.shared / LOGS, self.shared / CHECKPOINTS
        for folder in (self.shared, logs / TRAIN, logs / HELD_OUT, checkpoints / LAST, checkpoints / BEST):
            files.remove_abandoned(folder)

    def _restore(self, ddr: DDR, record: dict[str, Any] | None, steps: int) -> int:
        """Restores the newest checkpoint, and returns the step that it is at."""
        self._checkpoints = Checkpoints(self._directory, self.shared, ddr)
        restored = self._checkpoints.restore()
        reached = record["step"] if record else 0
        is_finished = bool(record and record["finished"])
        if restored is None and reached:
            if not (is_finished and steps <= reached and (self.shared / MODEL).is_file()):
                raise UserError(self._lost(reached))
            self.finished = True
            return reached
        step = steps_done(ddr)
        if restored:
            self._resume_from(restored)
        written = is_finished and reached == step and (self.shared / MODEL).is_file()
        self.finished = written and step >= steps
        return step

    def _lost(self, reached: int) -> str:
        good = f"; {MODEL} is still there" if (self.shared / MODEL).is_file() else ""
        return (
            f"run.json says that {self.shared} had reached step {reached}, but there is no checkpoint{good}. Bring "
            "checkpoints/ back from a copy, or give another --run_dir to begin anew."
        )

    def _resume_from(self, restored: Checkpoint) -> None:
        manifest = restored.manifest or {}
        self.log_state = manifest.get("log") or {}
        self._was_measured = manifest.get("held_out_elbo") is not None
        if not self._devices.worker:
            self._checkpoints.tidy(restored)

    def _check_workers(self, step: int) -> None:
        """Checks that all workers do the same; also keeps the chief from writing before all have read."""
        common = {name: value for name, value in self._settings.items() if name not in OF_A_MACHINE}
        self._devices.check_same(
            {"their settings": common, "the sequences found": self._data, "the step of the checkpoint": step}
        )

    def _forget_after(self, step: int) -> None:
        """Drops from `metrics.jsonl` and TensorBoard what a resumed run writes again and what a kill cut short."""
        path, kept = self._directory / METRICS, []
        if path.exists():
            try:
                lines = files.read_limited(path, runs.MAX_METRICS_BYTES).decode(errors="replace").splitlines()
            except ValueError as error:
                raise UserError(f"{path} cannot be used ({error}).") from error
            kept = [line for line in lines if _step_of(line) <= step]
            files.write_text(path, "".join(f"{line}\n" for line in kept))
        if self._was_measured and not self._devices.worker and not any(_step_of(line) == step for line in kept):
            print(
                f"warning: {path} lacks the metrics of step {step}: it was removed or damaged, and what is missing "
                "stays lost.",
                file=sys.stderr,
            )
        for split in (TRAIN, HELD_OUT):
            forget_events_after(self._directory / LOGS / split, step)

    def _write_beginning(self, step: int) -> None:
        """Writes the settings, and what the data are, as they are now."""
        self._write_record(step, self.finished)  # first, since without it the others are of no run
        from_gin = config.is_called("train")
        text = config.operative_text() if from_gin else "".join(f"{n} = {v}\n" for n, v in self._settings.items())
        files.write_text(self._directory / CONFIG, text)
        files.write_json(self._directory / DATASET, self._dataset.description() | {RECIPE: recipe(self._dataset)})
        for split in (TRAIN, HELD_OUT):  # TensorFlow would say that something else is there in twenty lines
            (self._directory / LOGS / split).mkdir(parents=True, exist_ok=True)
        self._train_writer, self._held_out_writer = (
            tf.summary.create_file_writer(str(self._directory / LOGS / split)) for split in (TRAIN, HELD_OUT)
        )
        with self._train_writer.as_default():
            tf.summary.text("config", "\n".join(f"    {line}" for line in text.splitlines()), step=step)
        with self._held_out_writer.as_default():
            hparams.hparams(_hyperparameters(self._settings), trial_id=self.shared.name)

    def _write_record(self, step: int, finished: bool) -> None:
        record = {
            "command": shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),  # as it was typed
            "seed": self._seed,
            "data": self._data,
            "content": self._dataset.content,
            "step": step,
            "best_step": self.best_step if finished else None,
            "finished": finished,
            "training_minutes": round(self.seconds / 60, 2),
            "peak_memory_mb": max(self._peak_memory_mb, round(peak_memory_mb())),
            "cpus": os.cpu_count(),
            "versions": {
                "ddr_tf": ddr_tf.__version__,
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in PACKAGES},
            },
            "settings": self._settings,
        }
        files.write_json(self._directory / RECORD, record)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all sessions."""
        return float(self._checkpoints.seconds)

    def add_seconds(self, seconds: float) -> None:
        """Counts time of training."""
        self._checkpoints.seconds.assign_add(seconds)

    def log(self, split: str, step: int, values: dict[str, float]) -> None:
        """Appends one line to `metrics.jsonl` and the scalars to TensorBoard."""
        line = {"step": step, "split": split, "minutes": round(self.seconds / 60, 3), **values}
        with self._errors(), (self._directory / METRICS).open("a") as file:
            file.write(json.dumps(line) + "\n")
        with (self._train_writer if split == TRAIN else self._held_out_writer).as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(_tag(name), value)

    def log_images(self, step: int, sheets: dict[str, np.ndarray]) -> None:
        """Shows contact sheets in TensorBoard."""
        with self._held_out_writer.as_default(step=step):
            for name, sheet in sheets.items():
                tf.summary.image(name, sheet[None])
        self._held_out_writer.flush()

    def save(self, step: int, held_out_elbo: float | None, log: dict[str, Any]) -> None:
        """Writes a checkpoint; see `Checkpoints.save`."""
        with self._errors():
            if (metrics := self._directory / METRICS).exists():
                files.sync_all(metrics)  # so that its lines up to this step are on the disk before the checkpoint
            self._checkpoints.save(step, held_out_elbo, log)
            self._write_record(step, finished=False)

    def use_best(self, ddr: DDR) -> None:
        """Saves the model as that of the last step, then gives it the weights of the best step if that is another."""
        last = self._directory / MODEL_LAST
        with self._errors():
            with files.replaced(last) as partial:
                ddr.save(partial)
            self.best_step = self._checkpoints.restore_best()
            if self.best_step in (None, self._checkpoints.saved_step):
                last.unlink()

    def finish(self, ddr: DDR, step: int, sheets: dict[str, np.ndarray]) -> None:
        """Writes the final model, the contact sheets and the projector's points, and marks the run as finished.

        Args:
          ddr: As `use_best` left it.
          step: The last.
          sheets: Name -> picture.
        """
        with self._errors():
            with files.replaced(self._directory / MODEL) as partial:
                ddr.save(partial)
            write_densities(self._directory, ddr)
            for name, sheet in sheets.items():
                with files.replaced(self._directory / f"{name}.png") as partial:
                    Image.fromarray(sheet).save(partial)
            write_projector(self._directory / LOGS / HELD_OUT, ddr, self._dataset, self._seed)
            self._write_record(step, finished=True)


def _tag(name: str) -> str:
    """The name of a metric in TensorBoard, which groups by what comes before the slash."""
    if name in BOUND_METRICS or name == "bits_per_dim":
        return f"bound/{name}"
    return f"codes/{name}" if name.startswith("active_units") else f"training/{name}"


def _hyperparameters(settings: dict[str, str]) -> dict[str, bool | float | str]:
    """Settings as TensorBoard compares runs by them."""
    values = {}
    for name, text in settings.items():
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text  # a reference or a macro
        values[name] = value if isinstance(value, (bool, int, float, str)) else text
    return values


def _step_of(line: str) -> float:
    """The step of a line of `metrics.jsonl`; infinity: the line is damaged."""
    try:
        return runs.parse_metrics(line)["step"]
    except ValueError:
        return float("inf")
