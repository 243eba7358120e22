"""Checkpoints of a run: written whole, with checksums, the newest two and the best; damaged ones are passed over."""

import math
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ddr_tf import files, runs
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR
from ddr_tf.runs import BEST, CHECKPOINTS, DATA, INDEX, LAST, MANIFEST, Checkpoint

KEPT = 2  # of the newest
# What TensorFlow raises for damaged files; each of these was seen.
_UNREADABLE = (tf.errors.OpError, IndexError, RuntimeError, ValueError, AssertionError, OSError)


def steps_done(ddr: DDR) -> int:
    """How many updates the model has had."""
    return int(keras.ops.convert_to_numpy(ddr.optimizer.iterations))


class Checkpoints:
    """Writes the checkpoints of a run, and finds where it resumes.

    Attributes:
      best_elbo: The best held-out ELBO so far, a float64 variable.
      seconds: Of training, over all sessions of the run, a float64 variable.
      saved_step: Of the newest checkpoint; -1: there is none.
    """

    def __init__(self, directory: Path, shared: Path, ddr: DDR) -> None:
        """Args: directory: Where this process writes; shared: the run directory, where it reads."""
        self._folder, self._shared = directory / CHECKPOINTS, shared
        self.best_elbo = tf.Variable(-math.inf, dtype=tf.float64)
        self.seconds = tf.Variable(0.0, dtype=tf.float64)
        self._checkpoint = tf.train.Checkpoint(model=ddr, best_elbo=self.best_elbo, seconds=self.seconds)
        self._checkpoint.save_counter.assign(0)  # creates the counter, since checkpoints of version 0.2.0 have one
        self.saved_step = -1

    def restore(self) -> Checkpoint | None:
        """Restores the newest checkpoint that is whole, with a warning about those that are not; None: there is none.

        Raises:
          UserError: If there are some, and all are damaged.
        """
        problems = []
        for checkpoint in runs.all_checkpoints(self._shared):
            if reason := checkpoint.damage() or self._read(checkpoint):
                problems.append(f"The checkpoint {checkpoint.path} cannot be read ({reason})")
                continue
            for problem in problems:
                print(f"warning: {problem}; going on from {checkpoint.path}.", file=sys.stderr)
            self.saved_step = checkpoint.step
            return checkpoint
        if problems:
            raise UserError(f"{'. '.join(problems)}. No other is left; bring one back, or give another --run_dir.")
        return None

    def _read(self, checkpoint: Checkpoint) -> str | None:
        """Restores it; what is wrong with it, or None."""
        try:
            with files.without_patterns(checkpoint.path.parent) as folder:
                self._checkpoint.restore(str(folder / checkpoint.path.name)).assert_consumed()
        except _UNREADABLE as error:
            return (str(error) or type(error).__name__).splitlines()[0]
        return None

    def save(self, step: int, held_out_elbo: float | None, log: dict[str, Any]) -> None:
        """Writes a checkpoint, and the best if this held-out ELBO is the best so far.

        Args:
          step: Updates so far.
          held_out_elbo: None: it was not measured at this step.
          log: What `TrainingLog` has gathered and not written yet.

        Raises:
          UserError: If it cannot be written.
        """
        if step == self.saved_step:
            return
        better = held_out_elbo is not None and held_out_elbo > float(self.best_elbo)
        if better:
            self.best_elbo.assign(held_out_elbo)
        try:
            self._write(step, {"held_out_elbo": held_out_elbo, "log": log})
            if better:
                self._keep_as_best(runs.checkpoints(self._folder.parent, LAST)[0])
        except (OSError, tf.errors.OpError) as error:
            raise UserError(
                f"The checkpoint of step {step} cannot be written to {self._folder} ({_reason(error)}); "
                f"{runs.last_good(self._shared)}. The same command goes on once this is put right."
            ) from error
        self.saved_step = step

    def _write(self, step: int, manifest: dict[str, Any]) -> None:
        folder = self._folder / LAST
        folder.mkdir(parents=True, exist_ok=True)
        with files.temporary_folder(folder) as partial:
            with files.without_patterns(partial) as plain:
                self._checkpoint.write(str(plain / f"ckpt-{step}"))
            _complete(sorted(partial.glob("ckpt-*")), folder, step, manifest)
        _forget_others(folder, runs.checkpoints(self._folder.parent, LAST)[:KEPT])

    def _keep_as_best(self, checkpoint: Checkpoint) -> None:
        """Copies a checkpoint to `checkpoints/best`."""
        folder = self._folder / BEST
        folder.mkdir(parents=True, exist_ok=True)
        with files.temporary_folder(folder) as partial:
            names = checkpoint.manifest["files"]
            copies = [Path(shutil.copy(checkpoint.path.with_name(name), partial)) for name in names]
            _complete(copies, folder, checkpoint.step, checkpoint.manifest)
        best = runs.checkpoints(self._folder.parent, BEST)
        _forget_others(folder, [other for other in best if other.step == checkpoint.step])

    def restore_best(self) -> int | None:
        """Restores the best checkpoint but for the time of training; returns its step, or None if there is none whole.

        If the newest is the best, or the best is damaged, the weights stay as they are.
        """
        for checkpoint in runs.checkpoints(self._shared, BEST):
            if checkpoint.step == self.saved_step:
                return checkpoint.step
            seconds = float(self.seconds)
            if checkpoint.damage() is None and self._read(checkpoint) is None:
                self.seconds.assign(seconds)
                return checkpoint.step
        return None

    def tidy(self, restored: Checkpoint) -> None:
        """Finishes what a kill interrupted after the checkpoint that was restored had been written."""
        self._adopt_old()
        if restored.manifest and restored.manifest.get("held_out_elbo") == float(self.best_elbo):
            self._complete_best(restored)
        for kind, count in ((LAST, KEPT), (BEST, 1)):
            kept = runs.checkpoints(self._folder.parent, kind)[:count]
            _forget_others(self._folder / kind, kept)
            if kept:
                _name_newest(self._folder / kind, kept[0].step)

    def _adopt_old(self) -> None:
        """Writes the manifests of checkpoints of a version that wrote none, before `run.json` is of this version."""
        for checkpoint in runs.all_checkpoints(self._shared):
            if checkpoint.manifest is None and checkpoint.damage() is None:
                parts = [checkpoint.path.with_name(checkpoint.path.name + end) for end in (DATA, INDEX)]
                manifest = {"held_out_elbo": None, "log": {}, "files": {part.name: runs.digest(part) for part in parts}}
                files.write_json(checkpoint.path.with_name(checkpoint.path.name + MANIFEST), manifest)

    def _complete_best(self, restored: Checkpoint) -> None:
        """Copies the newest checkpoint, which is the best, if a kill came before."""
        best = runs.checkpoints(self._shared, BEST)
        is_kept = any(checkpoint.step == restored.step and checkpoint.damage() is None for checkpoint in best)
        if not is_kept and restored.path.parent.name == LAST:
            self._keep_as_best(restored)


def _reason(error: OSError | tf.errors.OpError) -> str:
    """What the system says, without the operation and the temporary file that TensorFlow names."""
    line = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return line.rpartition("; ")[2].partition(" [Op:")[0]


def _complete(parts: Iterable[Path], folder: Path, step: int, manifest: dict[str, Any]) -> None:
    """Moves the files of a checkpoint to their place, and then says that it is whole."""
    checksums = {}
    for part in parts:
        checksums[part.name] = runs.digest(part)
        files.put_in_place(part, folder / part.name)
    files.write_json(folder / f"ckpt-{step}{MANIFEST}", manifest | {"files": checksums})
    _name_newest(folder, step)


def _name_newest(folder: Path, step: int) -> None:
    """Tells `tf.train.latest_checkpoint` which it is."""
    files.write_text(folder / "checkpoint", f'model_checkpoint_path: "ckpt-{step}"\n')


def _forget_others(folder: Path, kept: Iterable[Checkpoint]) -> None:
    """Removes the files of all checkpoints but these, manifests first, so that no half of one is taken for whole."""
    names = tuple(f"{checkpoint.path.name}." for checkpoint in kept)
    others = [path for path in folder.glob("ckpt-*") if not path.name.startswith(names)]
    for path in sorted(others, key=lambda path: path.suffix != MANIFEST):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
