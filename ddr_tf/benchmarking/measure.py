"""How fast this machine trains and runs the model, and what share that is of what it can multiply.

The limit is the rate of a float32 matrix product in TensorFlow (sgemm). Machines are noisy, so what is compared is
measured in turns: each round has one reading of everything, and a result is the median over rounds. The first
execution, which compiles, is never counted.
"""

import concurrent.futures
import contextlib
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ddr_tf.benchmarking import computations
from ddr_tf.benchmarking.computations import noise, training_steps
from ddr_tf.benchmarking.machine import machine, versions
from ddr_tf.benchmarking.subjects import DETAILED, Configurations, Subject
from ddr_tf.benchmarking.timing import Timed, bar, in_turns
from ddr_tf.errors import UserError
from ddr_tf.model import flops
from ddr_tf.model.ddr import DDR
from ddr_tf.training.devices import Devices

FRAME_COUNTS = (2, 4, 8, 16, 32, 64)  # N, to see what a frame costs with each
FRAME_COUNT_STEPS = 2  # updates in one execution, there
LATENCY_CALLS = 30
LATENCY_FRAMES = (1, 8)  # N of the one sequence
INPUT_WARM_UP, INPUT_SECONDS = 20, 1.5  # batches that are timed when a dataset is measured alone
START_UP_LIMIT = 600  # seconds


def measure(
    gin_files: Sequence[str], bindings: Sequence[str], data_dir: str | None, max_frames: int, rounds: int
) -> dict[str, Any]:
    """Measures configurations.

    Args:
      gin_files, bindings, data_dir, max_frames: As for `Configurations`.
      rounds: Readings of everything.

    Returns:
      What `report` prints and `--json` writes.

    Raises:
      UserError: If a number is not possible, a gin file is wrong, or a configuration cannot be trained.
    """
    for name, number in dict(max_frames=max_frames, rounds=rounds).items():
        if number < 1:
            raise UserError(f"--{name} must be at least 1, got {number}.")
    configurations = Configurations(gin_files, bindings, data_dir, max_frames)
    devices = configurations.devices()
    with bar(configurations.gin_files, "compiling") as paths:
        subjects = [configurations.build(path, devices) for path in paths]
    detailed = [subject for subject in subjects if gin_files or subject.name in DETAILED]
    gflops = _train_and_sgemm(subjects, devices, rounds)
    limit = statistics.median(gflops)
    results = {
        "machine": machine(),
        "versions": versions(),
        "sgemm_gflops": limit,
        "sgemm": {
            "rows": computations.MATRIX,
            "readings": len(gflops),
            "least_gflops": min(gflops),
            "most_gflops": max(gflops),
        },
        "rounds": rounds,
        "left_out": configurations.left_out,
        "train": {subject.name: _training(subject, limit) for subject in subjects},
    }
    with bar(subjects, "input alone") as bar_of_subjects:
        for subject in bar_of_subjects:
            results["train"][subject.name]["input"] = _input(subject)
    results["latency"] = _latencies(detailed)
    cheapest, quickest = (min(group, key=lambda subject: subject.gflop_per_frame) for group in (detailed, subjects))
    results["num_frames"] = {cheapest.name: _frame_counts(cheapest, max_frames, rounds)}
    results["parts"] = {
        subject.name: _parts(subject, results["train"][subject.name]["input"], rounds) for subject in detailed
    }
    results["start_up"] = {quickest.name: _start_up(quickest.gin_file, bindings, data_dir)}
    return results


def _train_and_sgemm(subjects: Sequence[Subject], devices: Devices, rounds: int) -> list[float]:
    """Times the training steps of all subjects, and returns the readings of sgemm between them, in GFLOP/s."""
    product = Timed(computations.sgemm(devices))
    # sgemm runs before each of the others and after the last, so that it sees the same noise.
    timed = [one for subject in subjects for one in (product, subject.training)]
    in_turns([*timed, product], rounds, "training steps and sgemm")
    operations = 2 * computations.MATRIX**3 * devices.batch_splits * devices.num_replicas
    return [operations / seconds / 1e9 for seconds in product.readings]


def _training(subject: Subject, limit: float) -> dict[str, Any]:
    """The speed of a configuration's training step; `limit` is sgemm's, in GFLOP/s."""
    frames, gflop = subject.frames * subject.steps, subject.gflop_per_frame
    speed = frames / subject.training.seconds
    return {
        "gin_file": subject.gin_file,
        "batch_size": subject.batch_size,
        "num_frames": subject.num_frames,
        "frame_shape": subject.ddr.frame_shape,
        "steps_per_execution": subject.steps,
        "dtype": subject.ddr.dtype_policy.name,
        "parameters": subject.ddr.count_params(),
        "gflop_per_frame": gflop,
        "frames_per_second": speed,
        "least_frames_per_second": frames / max(subject.training.readings),
        "most_frames_per_second": frames / min(subject.training.readings),
        "gflops": speed * gflop,
        "share_of_sgemm": speed * gflop / limit,
    }


def _input(subject: Subject) -> dict[str, Any]:
    """The speed of the stream of batches alone, and seconds until its first batch; or why the data are missing."""
    if subject.batches is None:
        return {"not_at_hand": subject.source.reason}
    start = time.perf_counter()
    stream = iter(subject.batches)
    next(stream)
    first = subject.source.seconds + time.perf_counter() - start
    for _ in range(INPUT_WARM_UP):
        next(stream)
    count, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < INPUT_SECONDS:
        next(stream)
        count += 1
    return {"frames_per_second": count * subject.frames / seconds, "first_batch_seconds": first}


def _frame_counts(subject: Subject, max_frames: int, rounds: int) -> dict[str, dict[str, float]]:
    """What a frame costs with other N, at the same number of frames a step: a sequence in each split, or more."""
    splits = subject.devices.num_replicas * subject.devices.batch_splits
    frames = max(subject.frames, min(splits * FRAME_COUNTS[-1], max_frames))
    possible = [count for count in FRAME_COUNTS if subject.ddr.options.num_static_frames < count <= frames // splits]
    batch_sizes = {count: frames // count for count in possible if frames // count % splits == 0}
    with bar(batch_sizes, f"compiling {subject.name} for other N") as counts:
        timed = {
            count: Timed(training_steps(subject.ddr, subject.devices, batch_sizes[count], count, FRAME_COUNT_STEPS))
            for count in counts
        }
    in_turns(timed.values(), rounds, f"{subject.name} with other N")
    return {
        str(count): {
            "batch_size": batch_sizes[count],
            "frames_per_second": batch_sizes[count] * count * FRAME_COUNT_STEPS / one.seconds,
            "gflop_per_frame": flops.total(flops.per_frame(count, subject.ddr.get_config())).both / 1e9,
        }
        for count, one in timed.items()
    }


def _parts(subject: Subject, input_results: dict[str, Any], rounds: int) -> dict[str, dict[str, float]]:
    """Each part of a step by itself, in turns with the whole step.

    Args:
      subject: A configuration.
      input_results: What `_input` gives for it.
      rounds: Readings.
    """
    step = Timed(training_steps(subject.ddr, subject.devices, subject.batch_size, subject.num_frames, 1))
    frames = noise(subject.batch_size, subject.num_frames, subject.ddr.frame_shape)
    passes = computations.parts(subject.ddr, subject.devices, frames)
    timed = {part: {name: Timed(call) for name, call in calls.items()} for part, calls in passes.items()}
    in_turns([step, *(one for calls in timed.values() for one in calls.values())], rounds, f"{subject.name} by part")
    results = {part: _part(subject, part, calls) for part, calls in timed.items()}
    if speed := input_results.get("frames_per_second"):
        results["input"] = {"seconds": subject.frames / speed}
    results["step"] = {"seconds": step.seconds}
    # Without the input: it is made while the step before is computed.
    explained = sum(results[part]["forward_and_backward_seconds"] for part in flops.PARTS)
    results["rest"] = {"seconds": step.seconds - explained - results["optimizer"]["update_seconds"]}
    return results


def _part(subject: Subject, part: str, calls: dict[str, Timed]) -> dict[str, float]:
    results = {}
    for name, timed in calls.items():
        results[f"{name}_seconds"] = timed.seconds
        if part in subject.flops:
            operations = subject.flops[part].forward if name == "forward" else subject.flops[part].both
            results[f"{name}_gflops"] = operations * subject.frames / timed.seconds / 1e9
    return results


def _latencies(subjects: Sequence[Subject]) -> dict[str, dict[str, dict[str, float]]]:
    """Name of a subject -> what `latency` gives for its model."""
    splits = subjects[0].devices.batch_splits
    with bar(subjects, "latency") as bar_of_subjects, _where_operations_have_all_cores(splits) as call:
        return {
            subject.name: call(latency, subject.ddr.get_config(), LATENCY_CALLS, LATENCY_FRAMES)
            for subject in bar_of_subjects
        }


@contextlib.contextmanager
def _where_operations_have_all_cores(batch_splits: int) -> Iterator[Callable[..., Any]]:
    """What calls a function: here, or in another process if training has given each operation one core."""
    if batch_splits == 1:
        yield lambda function, *arguments: function(*arguments)
        return
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        yield lambda function, *arguments: process.submit(function, *arguments).result()


def latency(model: dict[str, Any], num_calls: int, frame_counts: Sequence[int]) -> dict[str, dict[str, float]]:
    """Milliseconds from frames to codes and back for one sequence, with NumPy at both ends.

    Args:
      model: What `DDR.get_config` gives.
      num_calls: Calls of each.
      frame_counts: N, the frames of the sequence.

    Returns:
      `<encode or decode>_<N>_frames` -> `median_ms` and `p90_ms`.
    """
    ddr = DDR.from_config(model)
    results = {}
    for num_frames in frame_counts:
        frames = noise(1, num_frames, ddr.frame_shape).numpy()
        codes = {name: value.numpy() for name, value in ddr.encode(tf.constant(frames)).items()}

        def encode(frames: np.ndarray = frames) -> np.ndarray:
            return ddr.encode(tf.constant(frames))["dynamic_mean"].numpy()

        def decode(codes: dict[str, np.ndarray] = codes) -> np.ndarray:
            return ddr.decode(tf.constant(codes["static_mean"]), tf.constant(codes["dynamic_mean"])).numpy()

        results[f"encode_{num_frames}_frames"] = _percentiles(encode, num_calls)
        results[f"decode_{num_frames}_frames"] = _percentiles(decode, num_calls)
    return dict(sorted(results.items(), reverse=True))


def _percentiles(call: Callable[[], Any], num_calls: int) -> dict[str, float]:
    """Milliseconds of a call, after one that compiles."""
    milliseconds = []
    call()
    for _ in range(num_calls):
        start = time.perf_counter()
        call()
        milliseconds.append(1000 * (time.perf_counter() - start))
    median, p90 = np.percentile(milliseconds, [50, 90])
    return {"median_ms": median, "p90_ms": p90}


def _start_up(gin_file: str, bindings: Sequence[str], data_dir: str | None) -> dict[str, Any]:
    """Seconds from the start of a fresh `python -m ddr_tf.train` to the end of its first step; or why there is none."""
    command = [sys.executable, "-m", "ddr_tf.train", "--gin_file", gin_file]
    for binding in (*bindings, "train.log_every=1"):  # so that the first step can be seen from outside
        command += ["--gin_param", binding]
    if data_dir is not None:
        command += ["--data_dir", data_dir]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        metrics = Path(folder) / "run" / "metrics.jsonl"
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--run_dir", str(metrics.parent)], stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            while not (metrics.exists() and metrics.stat().st_size):
                if process.poll() is not None or time.perf_counter() - start > START_UP_LIMIT:
                    errors.seek(0)
                    lines = errors.read().strip().splitlines() or ["no step was done"]
                    return {"not_measured": lines[-1]}
                time.sleep(0.005)
            return {"first_step_seconds": time.perf_counter() - start}
        finally:
            process.kill()
            process.wait()
