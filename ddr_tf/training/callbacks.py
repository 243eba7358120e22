"""What happens between the steps of training: checks, progress, logs, held-out evaluation and checkpoints."""

import math
import sys
import time
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN
from ddr_tf.errors import UserError
from ddr_tf.evaluation import codes as code_metrics
from ddr_tf.model.ddr import DDR
from ddr_tf.model.elbo import bits_per_dim
from ddr_tf.pictures import contact_sheets
from ddr_tf.runs import last_good
from ddr_tf.training.run_directory import Run
from ddr_tf.training.settings import Settings
from ddr_tf.training.steps import Evaluation

SLOW_RUN_SECONDS = 24 * 3600
ESTIMATE_AFTER_SECONDS = 20


class Execution(NamedTuple):
    """One call of the compiled function.

    Attributes:
      step: Updates that the model has had after it.
      steps: Of this call.
      metrics: Means over these.
      seconds: That it took.
    """

    step: int
    steps: int
    metrics: dict[str, float]
    seconds: float


def _check_finite(values: dict[str, float], where: str, run: Run) -> None:
    """Raises UserError naming the first term that is NaN or infinite; causes come before effects."""
    for name in ("reconstruction", "kl_static", "kl_dynamic", "elbo", "gradient_norm"):
        if name in values and not math.isfinite(values[name]):
            raise UserError(
                f"{name} became {values[name]} {where}; {last_good(run.shared)}. A lower train.learning_rate or "
                "DDR.gradient_clip_norm usually helps."
            )


class StopIfNotFinite:
    """Stops the run at the step whose metrics are NaN or infinite, before anything is written."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def after(self, execution: Execution) -> None:
        _check_finite(execution.metrics, f"at step {execution.step}", self._run)


class Progress:
    """One bar: steps, frames/s, ELBO in nats a frame, time left; and a warning if the run would take days."""

    def __init__(self, start: int, settings: Settings) -> None:
        self._steps, self._frames_per_step = settings.steps, settings.frames_per_step
        self._smaller_config = settings.smaller_config
        self._bar = tqdm(
            initial=start,
            total=settings.steps,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 30.0,
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps{postfix}",
        )
        self._first: tuple[int, float] | None = None  # step and time at the end of the first call, which compiles
        self._begun = time.perf_counter()
        self._warned = False

    def after(self, execution: Execution) -> None:
        now = time.perf_counter()
        elbo = f"ELBO {execution.metrics['elbo']:,.1f} nats/frame"
        elapsed = tqdm.format_interval(now - self._begun)
        if self._first is None:
            self._first = (execution.step, now)
            self._bar.set_postfix_str(f"compiled, {elbo} [{elapsed}]", refresh=False)
        else:
            seconds_of_step = (now - self._first[1]) / (execution.step - self._first[0])
            left = (self._steps - execution.step) * seconds_of_step
            speed = f"{self._frames_per_step / seconds_of_step:,.0f} frames/s"
            times = f"[{elapsed}, {tqdm.format_interval(left)} left]"
            self._bar.set_postfix_str(f"{speed}, {elbo} {times}", refresh=False)
            self._warn_if_slow(now, left, speed)
        self._bar.update(execution.step - self._bar.n)

    def _warn_if_slow(self, now: float, left: float, speed: str) -> None:
        if self._warned or now - self._first[1] < ESTIMATE_AFTER_SECONDS:
            return
        self._warned = True
        if left > SLOW_RUN_SECONDS:
            smaller = f"; {self._smaller_config} is made for small machines" if self._smaller_config else ""
            self._bar.write(
                f"warning: at {speed} this run takes about {left / 86400:.1f} days on this machine{smaller}.",
                file=sys.stderr,
            )

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()


class TrainingLog:
    """Means over the last `log_every` steps, and frames/s without evaluation and checkpoints."""

    def __init__(self, run: Run, settings: Settings, ddr: DDR) -> None:
        self._run, self._settings, self._frame_shape = run, settings, ddr.frame_shape
        self._sums: dict[str, float] = dict(run.log_state.get("sums", {}))
        self._steps, self._seconds = run.log_state.get("steps", 0), run.log_state.get("seconds", 0.0)

    @property
    def state(self) -> dict[str, Any]:
        """What has been gathered and not written yet, for a checkpoint."""
        return {"sums": self._sums, "steps": self._steps, "seconds": self._seconds} if self._steps else {}

    def after(self, execution: Execution) -> None:
        self._run.add_seconds(execution.seconds)
        self._seconds += execution.seconds
        self._steps += execution.steps
        for name, value in execution.metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * execution.steps
        if execution.step % self._settings.log_every == 0:
            self._write(execution.step)

    def _write(self, step: int) -> None:
        values = {name: value / self._steps for name, value in self._sums.items()}
        values["bits_per_dim"] = bits_per_dim(values["elbo"], self._frame_shape)
        values["frames_per_second"] = self._steps * self._settings.frames_per_step / self._seconds
        self._run.log(TRAIN, step, values)
        self._sums, self._steps, self._seconds = {}, 0, 0.0


class HeldOut:
    """Held-out metrics, pictures and checkpoints, every `checkpoint_every` steps and at the end."""

    def __init__(
        self,
        run: Run,
        settings: Settings,
        ddr: DDR,
        evaluation: Evaluation,
        encoded: tf.data.Dataset,
        shown: contact_sheets.Shown,
        log: TrainingLog,
    ) -> None:
        """Args: encoded: batches for `active_units`; shown: frames for pictures."""
        self._run, self._settings, self._ddr = run, settings, ddr
        self._evaluation, self._encoded, self._shown, self._log = evaluation, encoded, shown, log

    def after(self, execution: Execution) -> None:
        step = execution.step
        if step % self._settings.checkpoint_every and step != self._settings.steps:
            return
        values = self._evaluation()
        _check_finite(values, f"on held-out sequences after step {step}", self._run)
        values["bits_per_dim"] = bits_per_dim(values["elbo"], self._ddr.frame_shape)
        values |= active_units(self._ddr, self._encoded)
        self._run.log(HELD_OUT, step, values)
        sheets = contact_sheets.contact_sheets(self._ddr, self._shown, self._settings.seed)
        self._run.log_images(step, sheets)
        self._run.save(step, values["elbo"], self._log.state)


def active_units(ddr: DDR, batches: tf.data.Dataset) -> dict[str, int]:
    """How many units of f vary between sequences, and of z between frames; see `evaluation.codes`."""
    codes = [ddr.encode(frames) for frames in batches]
    static = np.concatenate([code["static_mean"] for code in codes])
    dynamic = np.concatenate([np.reshape(code["dynamic_mean"], (-1, ddr.dynamic_dim)) for code in codes])
    return {
        "active_units_static": code_metrics.active_units(static),
        "active_units_dynamic": code_metrics.active_units(dynamic),
    }
