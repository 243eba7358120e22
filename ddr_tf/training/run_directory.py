"""The writing side of a run directory: what is in it, see `runs`; what a resumed run finds there."""

import atexit
import json
import math
import os
import platform
import resource
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import ddr_tf
from ddr_tf import config
from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR
from ddr_tf.runs import RECORD, check_same_data, newest_checkpoint
from ddr_tf.training import devices

# Where things are on a machine; may differ between those that train together.
OF_A_MACHINE = {"data_dir", "AffWild.cache_dir", "FrameFolders.cache_dir"}
# Settings that a resumed run may change: they do not alter what a step does. (`train.steps` alters the schedule of
# the learning rate unless it is constant; continuing for longer is worth that.)
MAY_CHANGE = OF_A_MACHINE | {
    f"train.{name}" for name in ("steps", "checkpoint_every", "log_every", "steps_per_execution", "smaller_config")
}


def steps_done(ddr: DDR) -> int:
    """Updates that the model has had."""
    return int(keras.ops.convert_to_numpy(ddr.optimizer.iterations))


def peak_memory_mb() -> float:
    """The most memory that this process has had resident so far, in megabytes (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


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
        if devices.worker(strategy):
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
                check_same_data(self.shared, record, self._data)
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
            devices.check_same(self._strategy, same)  # also keeps the chief from writing before all have read
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
