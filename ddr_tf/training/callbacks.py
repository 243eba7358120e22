"""What happens between the steps of training: checks, progress, logs, held-out evaluation and checkpoints."""

import math
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN
from ddr_tf.errors import UserError
from ddr_tf.evaluation import codes as code_metrics
from ddr_tf.model.ddr import DDR, FIGURES
from ddr_tf.model.elbo import bits_per_dim
from ddr_tf.pictures import contact_sheets
from ddr_tf.runs import last_good
from ddr_tf.training.run_directory import Run, steps_done

SLOW_RUN_SECONDS = 24 * 3600
ESTIMATE_AFTER_SECONDS = 20


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
        self._run.log_images(step, contact_sheets.contact_sheets(self.model, self._shown, self._seed))
        self._run.save(step, values["elbo"])


def active_units(ddr: DDR, batches: tf.data.Dataset) -> dict[str, int]:
    """How many units of f vary between sequences, and of z between frames; see `evaluation.codes`."""
    codes = [ddr.encode(frames) for frames in batches]
    static = np.concatenate([code["static_mean"] for code in codes])
    dynamic = np.concatenate([np.reshape(code["dynamic_mean"], (-1, ddr.dynamic_dim)) for code in codes])
    return {
        "active_units_static": code_metrics.active_units(static),
        "active_units_dynamic": code_metrics.active_units(dynamic),
    }
