"""How fast this machine trains and runs the model, and what share that is of what it can multiply.

The limit is the rate of a float32 matrix product in TensorFlow (sgemm). Machines are noisy, so what is compared is
measured in turns: each round has one reading of everything, and a figure is the median over rounds. The first
execution, which compiles, is never counted.
"""

import concurrent.futures
import contextlib
import importlib.util
import json
import math
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import ddr_tf
from ddr_tf import cli, config
from ddr_tf.data.sequence_dataset import TRAIN, SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.model import flops
from ddr_tf.model.ddr import DDR, as_float
from ddr_tf.training import devices, loop

SHIPPED = Path(__file__).parents[2] / "gin"
DETAILED = ("sprites", "sprites_small")  # of the shipped configurations: the paper's network and that for 2 cores
MATRIX = 2048  # rows and columns of what sgemm multiplies
MIN_SECONDS = 0.2  # that a reading takes, by repeating what is quicker
FRAME_COUNTS = (2, 4, 8, 16, 32, 64)  # N, of what a frame costs with each
STEPS_OF_FRAME_COUNTS = 2  # in one execution, there
LATENCY_CALLS = 30
INPUT_WARM_UP, INPUT_SECONDS = 20, 1.5  # batches; of measuring a dataset alone
START_UP_LIMIT = 600  # seconds
WIDTH = 100  # columns of the report


class Timed:
    """Something that is timed again and again."""

    def __init__(self, call: Callable[[], Any]) -> None:
        """Calls it twice: the first call may compile, the second tells how often a reading must repeat it."""
        self._call = call
        self.readings: list[float] = []  # seconds of a call
        self._repeats = 1
        self._seconds()
        self._repeats = max(1, math.ceil(MIN_SECONDS / self._seconds()))

    def _seconds(self) -> float:
        tf.test.experimental.sync_devices()
        start = time.perf_counter()
        for _ in range(self._repeats):
            self._call()
        tf.test.experimental.sync_devices()  # a GPU answers before it has computed
        return (time.perf_counter() - start) / self._repeats

    def read(self) -> None:
        """Takes one reading."""
        self.readings.append(self._seconds())

    @property
    def seconds(self) -> float:
        """The median of the readings."""
        return statistics.median(self.readings)


def in_turns(timed: Iterable[Timed], rounds: int, what: str) -> None:
    """Takes `rounds` readings of each, in turns, with a bar."""
    each = list(timed)
    with bar(each * rounds, what) as readings:
        for one in readings:
            one.read()


def bar(items: Iterable[Any], what: str) -> tqdm:
    """The items with a bar, which `with` clears away, also before an error is said."""
    return tqdm(items, desc=what, leave=False)


def noise(batch_size: int, num_frames: int, frame_shape: tuple[int, int, int]) -> tf.Tensor:
    """Frames of uniform noise, uint8 `[B, N, H, W, C]`."""
    shape = (batch_size, num_frames, *frame_shape)
    return tf.constant(np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8))


def sgemm(strategy: tf.distribute.Strategy, batch_splits: int) -> Callable[[], Any]:
    """`batch_splits` products of two float32 `[MATRIX, MATRIX]` side by side on each device."""
    matrices = [tf.random.stateless_normal([MATRIX, MATRIX], [0, share]) for share in range(batch_splits)]

    def products(*matrices: tf.Tensor) -> list[tf.Tensor]:
        return [matrix @ matrix for matrix in matrices]

    return on_devices(strategy, products, matrices)


def training_steps(ddr: DDR, batch_size: int, num_frames: int, steps: int) -> Callable[[], None]:
    """One execution of the function that training calls, `steps` updates, on one batch of noise repeated.

    Raises:
      UserError: When called, if the figures become NaN or infinite, since fewer steps are done then.
    """
    ddr.steps_per_execution = steps
    ddr.make_train_function(force=True)
    batches = tf.data.Dataset.from_tensors(noise(batch_size, num_frames, ddr.frame_shape)).repeat()
    iterator, train_function = (
        iter(ddr.distribute_strategy.experimental_distribute_dataset(batches)),
        ddr.train_function,
    )

    def execute() -> None:
        if not math.isfinite(train_function(iterator)["elbo"]):
            raise UserError("Training on noise became NaN, so it cannot be timed; lower train.learning_rate.")

    return execute


class Subject(NamedTuple):
    """A configuration, ready to be measured.

    Attributes:
      name: Of its gin file.
      gin_file: The path.
      ddr: Its model, compiled as for training.
      batch_size: B of its steps here.
      num_frames: N.
      steps: In one execution.
      flops: Operations a frame, by part.
      training: Executions of the train function.
      batches: The stream that it would be trained on; None if the data are not at hand.
      dataset_seconds: That making the dataset took.
      not_at_hand: Why the data are not.
    """

    name: str
    gin_file: str
    ddr: DDR
    batch_size: int
    num_frames: int
    steps: int
    flops: dict[str, flops.Flops]
    training: Timed
    batches: tf.data.Dataset | None
    dataset_seconds: float
    not_at_hand: str | None

    @property
    def frames(self) -> int:
        """Of a step."""
        return self.batch_size * self.num_frames


class Benchmark:
    """What is measured in one run, and in `found` what came out, as written to JSON."""

    def __init__(
        self, gin_files: Sequence[str], bindings: Sequence[str], data_dir: str | None, max_frames: int, rounds: int
    ) -> None:
        """Reads the settings.

        Args:
          gin_files: One configuration each; empty: all shipped ones that can be trained on as they are.
          bindings: As of `config.load`, for all of them.
          data_dir: As of `config.load`.
          max_frames: The most frames of a step; configurations with more get fewer sequences.
          rounds: Readings of everything.

        Raises:
          UserError: If a number is not possible, or a gin file is wrong.
        """
        for name, number in dict(max_frames=max_frames, rounds=rounds).items():
            if number < 1:
                raise UserError(f"--{name} must be at least 1, got {number}.")
        self._bindings, self._data_dir, self._max_frames, self._rounds = bindings, data_dir, max_frames, rounds
        self._datasets: dict[str, tuple[SequenceDataset | UserError, float]] = {}  # and seconds to make it
        self._left_out: dict[str, str] = {}
        self._gin_files = [str(path) for path in gin_files] or self._shipped()
        names = [Path(path).stem for path in self._gin_files]
        if len(set(names)) < len(names):
            raise UserError(f"Two gin files have the same name: {', '.join(names)}.")
        batch_sizes = []
        for path in self._gin_files:  # all of them now, and not after minutes
            settings = self._load(path)
            batch_sizes.append(self._batch_size(settings))
            if settings["num_frames"] > max_frames:
                raise UserError(
                    f"--max_frames must be at least the frames of one sequence, {settings['num_frames']} in {path}, "
                    f"got {max_frames}."
                )
        # One for all: two in a process share TensorFlow's collectives.
        self._strategy = devices.make_strategy(batch_sizes=batch_sizes)
        self._detailed = names if gin_files else [name for name in names if name in DETAILED]
        self.found: dict[str, Any] = {}

    def _load(self, gin_file: str) -> dict[str, Any]:
        config.load([gin_file], self._bindings, self._data_dir)
        return config.settings(loop.train)

    def _batch_size(self, settings: dict[str, Any], devices: int = 1) -> int:
        """B of a configuration here."""
        return min(settings["batch_size"], max(self._max_frames // settings["num_frames"] // devices, 1) * devices)

    def _shipped(self) -> list[str]:
        """Those that lack nothing; why others are left out goes to `_left_out`."""
        paths = sorted(SHIPPED.glob("*.gin"))
        if not paths:
            raise UserError(f"There are no gin files in {SHIPPED}; name some with --gin_file.")
        complete = []
        for path in paths:
            try:
                self._load(str(path))
                complete.append(str(path))
            except UserError as error:
                self._left_out[path.stem] = str(error)
        if not complete:
            raise UserError(next(iter(self._left_out.values())))
        return complete

    def measure(self) -> dict[str, Any]:
        """Everything; returns `found`.

        Raises:
          UserError: If a configuration cannot be trained.
        """
        with bar(self._gin_files, "compiling") as paths:
            subjects = [self._prepare(path) for path in paths]
        batch_splits = subjects[0].ddr.batch_splits
        product = Timed(sgemm(self._strategy, batch_splits))
        # sgemm before each of the others, and after the last, so that it has seen the same noise.
        in_turns(
            [each for subject in subjects for each in (product, subject.training)] + [product],
            self._rounds,
            "training steps and sgemm",
        )
        operations = 2 * MATRIX**3 * batch_splits * self._strategy.num_replicas_in_sync
        gflops = [operations / seconds / 1e9 for seconds in product.readings]
        self.found = {
            "machine": machine(),
            "versions": versions(),
            "sgemm_gflops": statistics.median(gflops),
            "sgemm": {"rows": MATRIX, "readings": len(gflops), "least_gflops": min(gflops), "most_gflops": max(gflops)},
            "rounds": self._rounds,
            "left_out": self._left_out,
        }
        limit = self.found["sgemm_gflops"]
        self.found["train"] = {subject.name: training_figures(subject, limit) for subject in subjects}
        with bar(subjects, "input alone") as each:
            for subject in each:
                self.found["train"][subject.name]["input"] = input_figures(subject)
        detailed = [subject for subject in subjects if subject.name in self._detailed]
        with bar(detailed, "latency") as each, _where_operations_have_all_cores(batch_splits) as call:
            self.found["latency"] = {
                subject.name: call(latency, subject.ddr.get_config(), LATENCY_CALLS) for subject in each
            }
        cheapest = min(detailed, key=lambda subject: flops.total(subject.flops).both)
        self.found["num_frames"] = {cheapest.name: self._frame_counts(cheapest)}
        self.found["parts"] = {subject.name: self._parts(subject) for subject in detailed}
        quickest = min(subjects, key=lambda subject: flops.total(subject.flops).both)
        self.found["start_up"] = {quickest.name: start_up(quickest.gin_file, self._bindings, self._data_dir)}
        return self.found

    def _sequences(self, give: Callable[[], SequenceDataset]) -> tuple[SequenceDataset | UserError, float]:
        """The dataset, made once for all configurations with the same settings of it, or why not; and the seconds."""
        key = f"{give.__name__} {config.settings(give)}"
        if key not in self._datasets:
            start = time.perf_counter()
            try:
                made = give()
            except UserError as error:
                made = error
            self._datasets[key] = made, time.perf_counter() - start
        return self._datasets[key]

    def _prepare(self, gin_file: str) -> Subject:
        """Builds, compiles and warms up."""
        settings = self._load(gin_file)
        give, num_frames = settings["sequences"], settings["num_frames"]
        batch_size = self._batch_size(settings, self._strategy.num_replicas_in_sync)
        devices.check_batch_size(self._strategy, batch_size)
        dataset, seconds = self._sequences(give)
        missing = isinstance(dataset, UserError)
        if missing:
            frame_shape = give.frame_shape_of(**config.settings(give))
            if frame_shape is None:
                raise dataset
        else:
            frame_shape = dataset.frame_shape
        names = ("optimizer", "steps", "learning_rate", "final_learning_rate", "seed")
        of_optimizer = {name: settings[name] for name in names}
        ddr = loop.compiled_model(self._strategy, settings["model"], frame_shape, num_frames, **of_optimizer)
        ddr.batch_splits = devices.batch_splits(self._strategy, batch_size)
        steps = settings["steps_per_execution"]
        return Subject(
            Path(gin_file).stem,
            gin_file,
            ddr,
            batch_size,
            num_frames,
            steps,
            flops.per_frame(num_frames, ddr.get_config()),
            Timed(training_steps(ddr, batch_size, num_frames, steps)),
            None if missing else dataset.batches(TRAIN, batch_size, num_frames, settings["seed"]),
            seconds,
            str(dataset).splitlines()[0] if missing else None,  # gin appends where it was called
        )

    def _parts(self, subject: Subject) -> dict[str, dict[str, float]]:
        """Each part of a step by itself, beside the step, in turns with it."""
        step = Timed(training_steps(subject.ddr, subject.batch_size, subject.num_frames, 1))
        passes = parts(subject.ddr, noise(subject.batch_size, subject.num_frames, subject.ddr.frame_shape))
        timed = {(part, way): Timed(call) for part, ways in passes.items() for way, call in ways.items()}
        in_turns([step, *timed.values()], self._rounds, f"{subject.name} by part")
        found: dict[str, dict[str, float]] = {}
        for (part, way), one in timed.items():
            figures = found.setdefault(part, {})
            figures[f"{way}_seconds"] = one.seconds
            if part in subject.flops:
                operations = subject.flops[part].forward if way == "forward" else subject.flops[part].both
                figures[f"{way}_gflops"] = operations * subject.frames / one.seconds / 1e9
        input_speed = self.found["train"][subject.name]["input"].get("frames_per_second")
        if input_speed:
            found["input"] = {"seconds": subject.frames / input_speed}
        found["step"] = {"seconds": step.seconds}
        # The input is made while the step before is computed.
        explained = [figures["forward_and_backward_seconds"] for part, figures in found.items() if part in flops.PARTS]
        found["rest"] = {"seconds": step.seconds - sum(explained) - found["optimizer"]["update_seconds"]}
        return found

    def _frame_counts(self, subject: Subject) -> dict[str, dict[str, float]]:
        """What a frame costs with other N, at the same number of frames a step: a sequence in each share, or more."""
        shares = subject.ddr.distribute_strategy.num_replicas_in_sync * subject.ddr.batch_splits
        most = max(subject.frames, min(shares * FRAME_COUNTS[-1], self._max_frames))
        possible = [count for count in FRAME_COUNTS if subject.ddr.num_static_frames < count <= most // shares]
        counts = [count for count in possible if most // count % shares == 0]
        with bar(counts, f"compiling {subject.name} for other N") as each:
            timed = {
                count: Timed(training_steps(subject.ddr, most // count, count, STEPS_OF_FRAME_COUNTS)) for count in each
            }
        in_turns(timed.values(), self._rounds, f"{subject.name} with other N")
        return {
            str(count): {
                "batch_size": most // count,
                "frames_per_second": most // count * count * STEPS_OF_FRAME_COUNTS / one.seconds,
                "gflop_per_frame": flops.total(flops.per_frame(count, subject.ddr.get_config())).both / 1e9,
            }
            for count, one in timed.items()
        }


def training_figures(subject: Subject, limit: float) -> dict[str, Any]:
    """Speed of a configuration's training step; `limit` is sgemm's, in GFLOP/s."""
    operations = flops.total(subject.flops).both / 1e9
    readings = sorted(subject.frames * subject.steps / seconds for seconds in subject.training.readings)
    speed = subject.frames * subject.steps / subject.training.seconds
    return {
        "gin_file": subject.gin_file,
        "batch_size": subject.batch_size,
        "num_frames": subject.num_frames,
        "frame_shape": subject.ddr.frame_shape,
        "steps_per_execution": subject.steps,
        "dtype": subject.ddr.dtype_policy.name,
        "parameters": subject.ddr.count_params(),
        "gflop_per_frame": operations,
        "frames_per_second": speed,
        "least_frames_per_second": readings[0],
        "most_frames_per_second": readings[-1],
        "gflops": speed * operations,
        "share_of_sgemm": speed * operations / limit,
    }


def input_figures(subject: Subject) -> dict[str, Any]:
    """Speed of the stream of batches alone, and seconds until its first batch; or why it is not at hand."""
    if subject.batches is None:
        return {"not_at_hand": subject.not_at_hand}
    start = time.perf_counter()
    stream = iter(subject.batches)
    next(stream)
    first = subject.dataset_seconds + time.perf_counter() - start
    for _ in range(INPUT_WARM_UP):
        next(stream)
    count, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < INPUT_SECONDS:
        next(stream)
        count += 1
    return {"frames_per_second": count * subject.frames / seconds, "first_batch_seconds": first}


def parts(ddr: DDR, frames: tf.Tensor) -> dict[str, dict[str, Callable[[], Any]]]:
    """Forward, and forward and backward, of each part of the model by itself, compiled; and the optimizer's update.

    Backward is the gradient by the part's weights and by its inputs, but for frames. Every device has inputs as many as
    its part of the batch, in as many shares as in training.
    """
    strategy = ddr.distribute_strategy
    share = frames[: len(frames) // strategy.num_replicas_in_sync]
    features, targets = ddr.features(share), as_float(share)
    static = tf.random.stateless_normal([len(share), ddr.static_dim], [0, 0])
    dynamic = tf.random.stateless_normal([*share.shape[:2], ddr.dynamic_dim], [0, 1])

    def log_likelihood(targets: tf.Tensor, static: tf.Tensor, dynamic: tf.Tensor) -> tf.Tensor:
        return ddr.likelihood(static, dynamic).log_prob(targets)

    def of_shares(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*inputs: tf.Tensor) -> list[Any]:
            return [function(*each) for each in zip(*(tf.split(one, ddr.batch_splits) for one in inputs), strict=True)]

        return run

    # Name -> layers, function, what it takes and needs no gradient by, what it takes and needs one by.
    each = {
        "frame encoder": (ddr.frame_encoder, ddr.features, (share,), ()),
        "static posterior": (ddr.static_posterior_net, ddr.static_posterior_net, (), (features,)),
        "dynamic posterior": (ddr.dynamic_posterior_net, ddr.dynamic_posterior_net, (), (features, static)),
        "dynamic prior": (ddr.dynamic_prior_net, ddr.dynamic_prior_net, (), (static,)),
        "decoder": (ddr.decoder, log_likelihood, (targets,), (static, dynamic)),
    }
    passes = {}
    for part, (layer, function, fixed, inputs) in each.items():
        passes[part] = {
            "forward": on_devices(strategy, of_shares(function), (*fixed, *inputs)),
            "forward_and_backward": on_devices(
                strategy, of_shares(_with_gradient(layer, function, len(fixed))), (*fixed, *inputs)
            ),
        }
    gradients = [tf.zeros(weight.shape) for weight in ddr.trainable_variables]  # so that the weights stay as they are

    def update(*gradients: tf.Tensor) -> tf.Tensor:
        # On this replica's device, as those of a step are.
        return ddr.update([tf.identity(gradient) for gradient in gradients])

    return passes | {"optimizer": {"update": on_devices(strategy, update, gradients)}}


def _with_gradient(layer: tf.Module, function: Callable[..., Any], num_fixed: int) -> Callable[..., Any]:
    def with_gradient(*inputs: tf.Tensor) -> list[tf.Tensor]:
        sources = [*inputs[num_fixed:], *(weight.value for weight in layer.trainable_variables)]
        with tf.GradientTape() as tape:
            tape.watch(inputs[num_fixed:])
            outputs = function(*inputs)
        return tape.gradient(outputs, sources, unconnected_gradients="zero")

    return with_gradient


def on_devices(
    strategy: tf.distribute.Strategy, function: Callable[..., Any], inputs: Sequence[tf.Tensor]
) -> Callable[[], Any]:
    """The function compiled, to be run with these inputs on every device."""

    @tf.function
    def run(*inputs: tf.Tensor) -> Any:
        return strategy.run(function, args=inputs)

    compiled = run.get_concrete_function(*inputs)
    return lambda: compiled(*inputs)


@contextlib.contextmanager
def _where_operations_have_all_cores(batch_splits: int) -> Iterator[Callable[..., Any]]:
    """Calls a function: here, or in another process if training has given each operation one core."""
    if batch_splits == 1:
        yield lambda function, *arguments: function(*arguments)
        return
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        yield lambda function, *arguments: process.submit(function, *arguments).result()


def latency(model: dict[str, Any], num_calls: int) -> dict[str, dict[str, float]]:
    """Milliseconds from frames to codes and back for one sequence of 1 and of 8 frames, with NumPy at both ends.

    Args:
      model: What `DDR.get_config` gives.
      num_calls: Of each.
    """
    ddr = DDR.from_config(model)
    found = {}
    for num_frames in (1, 8):
        frames = noise(1, num_frames, ddr.frame_shape).numpy()
        codes = ddr.encode(tf.constant(frames))
        static, dynamic = codes["static_mean"].numpy(), codes["dynamic_mean"].numpy()
        calls = {
            "encode": lambda frames=frames: ddr.encode(tf.constant(frames))["dynamic_mean"].numpy(),
            "decode": lambda static=static, dynamic=dynamic: ddr.decode(
                tf.constant(static), tf.constant(dynamic)
            ).numpy(),
        }
        for name, call in calls.items():
            took = []
            call()  # compiles
            for _ in range(num_calls):
                start = time.perf_counter()
                call()
                took.append(1000 * (time.perf_counter() - start))
            median, p90 = np.percentile(took, [50, 90])
            found[f"{name}_{num_frames}_frames"] = {"median_ms": median, "p90_ms": p90}
    return dict(sorted(found.items(), reverse=True))


def start_up(gin_file: str, bindings: Sequence[str], data_dir: str | None) -> dict[str, Any]:
    """Seconds from the start of a fresh `python -m ddr_tf.train` to the end of its first step; or why there is none."""
    command = [sys.executable, "-m", "ddr_tf.train", "--gin_file", str(Path(gin_file).resolve())]
    for binding in (*bindings, "train.log_every=1"):  # so that there is a sign of the first step
        command += ["--gin_param", binding]
    if data_dir is not None:
        command += ["--data_dir", data_dir]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        metrics = Path(folder) / "run" / "metrics.jsonl"
        command += ["--run_dir", str(metrics.parent)]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            while not (metrics.exists() and metrics.stat().st_size):
                seconds = time.perf_counter() - start
                if process.poll() is not None or seconds > START_UP_LIMIT:
                    errors.seek(0)
                    last = (errors.read().strip().splitlines() or ["no step was done"])[-1]
                    return {"not_measured": last}
                time.sleep(0.005)
            return {"first_step_seconds": time.perf_counter() - start}
        finally:
            process.kill()
            process.wait()


def machine() -> dict[str, Any]:
    """What this process computes on."""
    names = []
    with contextlib.suppress(OSError):  # not Linux
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": devices.num_cores(),
        "cores_of_an_operation": tf.config.threading.get_intra_op_parallelism_threads() or "all",
        "ram_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpus": [details.get("device_name", "GPU") for details in gpus],
        "system": platform.platform(),
        "onednn": onednn_is_on(),
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
    }


def onednn_is_on() -> bool | None:
    """Whether TensorFlow computes with oneDNN here; None if it does not tell (it has no public name for that)."""
    if importlib.util.find_spec("tensorflow.python.util._pywrap_util_port") is None:
        return None
    from tensorflow.python.util import _pywrap_util_port

    return bool(_pywrap_util_port.IsMklEnabled())


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    packages = ("tensorflow", "keras", "tensorflow-probability", "numpy")
    return {"ddr_tf": ddr_tf.__version__, "python": platform.python_version()} | {
        name: metadata.version(name) for name in packages
    }


def report(found: dict[str, Any]) -> str:
    """What `Benchmark.measure` found, as tables in Markdown that read well as text."""
    sections = [_head(found), _training_table(found)]
    sections += [_parts_table(name, parts) for name, parts in found["parts"].items()]
    sections += [_frame_counts_table(name, counts) for name, counts in found["num_frames"].items() if counts]
    sections += [_latency_table(found["latency"]), _start_up_line(found["start_up"])]
    return "\n".join(sections)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def _head(found: dict[str, Any]) -> str:
    machine, sgemm = found["machine"], found["sgemm"]
    names = [machine["cpu"], f"{machine['cores']} cores", f"{machine['ram_gb']:.0f} GB", *machine["gpus"]]
    text = _wrapped(", ".join(names) + ".")
    text += _wrapped(", ".join(f"{package} {version}" for package, version in found["versions"].items()) + ".")
    if machine["onednn"] is False and not machine["gpus"]:
        text += _wrapped("oneDNN is off on this CPU; set the environment variable TF_ENABLE_ONEDNN_OPTS=1 and compare.")
    return text + _wrapped(
        f"sgemm: {found['sgemm_gflops']:,.0f} GFLOP/s, float32, {sgemm['rows']} x {sgemm['rows']}; the median of "
        f"{sgemm['readings']} readings ({sgemm['least_gflops']:,.0f} to {sgemm['most_gflops']:,.0f}) between those of "
        "the training steps."
    )


def _training_table(found: dict[str, Any]) -> str:
    rows = [["training", "B x N", "frame", "GFLOP", "frames/s", "least, most", "of sgemm", "input"]]
    for name, figures in found["train"].items():
        extremes = (figures["least_frames_per_second"], figures["most_frames_per_second"])
        speed = figures["input"].get("frames_per_second")
        rows.append(
            [
                name,
                f"{figures['batch_size']}x{figures['num_frames']}",
                "x".join(map(str, figures["frame_shape"])),
                f"{figures['gflop_per_frame']:.3f}",
                _significant(figures["frames_per_second"]),
                ", ".join(map(_significant, extremes)),
                f"{figures['share_of_sgemm']:.0%}",
                _significant(speed) if speed else "-",
            ]
        )
    text = cli.table(rows) + "\n"
    text += _wrapped(
        f"frames/s: the median of {found['rounds']} readings, in turns, on frames of noise (speed does not depend on "
        "what they show). GFLOP: of a frame, forward and backward. input: frames/s of the dataset alone."
    )
    for name, figures in found["train"].items():
        if reason := figures["input"].get("not_at_hand"):
            text += _wrapped(f"The data of {name} are not at hand: {reason}")
    if found["left_out"]:
        text += _wrapped(f"Left out, since they need more settings: {', '.join(found['left_out'])}.")
    return text


def _significant(value: float) -> str:
    """Three digits that count, or more before the point."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else f"{value:.0f}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.1f}"


def _parts_table(name: str, parts: dict[str, dict[str, float]]) -> str:
    rows = [[f"{name}, a step", "forward, ms", "GFLOP/s", "with backward, ms", "GFLOP/s", "of the step"]]
    step = parts["step"]["seconds"]
    for part, figures in parts.items():
        if part in flops.PARTS:
            cells = []
            for way in ("forward", "forward_and_backward"):
                cells += [_milliseconds(figures[f"{way}_seconds"]), f"{figures[f'{way}_gflops']:,.0f}"]
            seconds = figures["forward_and_backward_seconds"]
        else:
            seconds = figures.get("seconds", figures.get("update_seconds"))
            cells = ["", "", _milliseconds(seconds), ""]
        rows.append([part, *cells, "beside it" if part == "input" else f"{seconds / step:.0%}"])
    return cli.table(rows)


def _frame_counts_table(name: str, counts: dict[str, dict[str, float]]) -> str:
    like = "8" if "8" in counts else next(iter(counts))
    rows = [[f"{name}, N", "B", "frames/s", f"seconds a frame, to those of N = {like}", "GFLOP"]]
    base = counts[like]["frames_per_second"]
    for count, figures in counts.items():
        rows.append(
            [
                count,
                str(figures["batch_size"]),
                _significant(figures["frames_per_second"]),
                f"{base / figures['frames_per_second']:.2f}",
                f"{figures['gflop_per_frame']:.3f}",
            ]
        )
    return cli.table(rows)


def _latency_table(latencies: dict[str, dict[str, dict[str, float]]]) -> str:
    rows = [["one sequence, ms", *(f"{name}: {what}" for name in latencies for what in ("median", "p90"))]]
    for call in next(iter(latencies.values())):
        verb, count, _ = call.split("_")
        cells = [f"{latencies[name][call][what]:.1f}" for name in latencies for what in ("median_ms", "p90_ms")]
        rows.append([f"{verb}, {count} frame{'s' * (count != '1')}", *cells])
    return cli.table(rows)


def _start_up_line(started: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, figures in started.items():
        if "first_step_seconds" in figures:
            lines.append(f"From the start of python to the end of the first step of {name}: ")
            lines[-1] += f"{figures['first_step_seconds']:.1f} s."
        else:
            lines.append(f"The start of {name} was not measured: {figures['not_measured']}")
    return "\n".join(lines) + "\n"


def write(path: Path, found: dict[str, Any]) -> None:
    """Writes the figures as JSON.

    Raises:
      UserError: If that is not possible.
    """
    try:
        path.write_text(json.dumps(found, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}).") from error
