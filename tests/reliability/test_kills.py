"""Training that is killed at any file operation goes on to the weights and metrics of training that is not."""

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from deaths import Death, FileOperations, dies

import ddr_tf
import tiny
from conftest import GIN
from ddr_tf import files, runs
from ddr_tf.errors import UserError
from ddr_tf.training.devices import Devices
from ddr_tf.training.loop import train
from ddr_tf.training.signals import SIGNALS

SETTINGS = tiny.SETTINGS | dict(steps=3, checkpoint_every=1, log_every=3)
RUNS, PROCESSES, EXPORTS = 10, 20, 10  # that die: of each number of replicas; the same, by SIGKILL; by SIGKILL
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files of the dead
FLAGS = [
    *("train.steps=6", "train.checkpoint_every=2", "train.log_every=3", "train.held_out_batches=1"),
    *("train.batch_size=2", "train.num_frames=2", "Puppets.size=16", "Puppets.num_poses=4"),
    *tiny.SIZE_BINDINGS,
]


def flags(run_dir, *bindings):
    settings = [part for binding in (*FLAGS, *bindings) for part in ("--gin_param", binding)]
    return ["--gin_file", str(GIN / "quickstart.gin"), *settings, "--run_dir", str(run_dir)]


def timeless(lines):
    """Lines of metrics.jsonl without what depends on the clock."""
    return [{name: line[name] for name in line.keys() - {"minutes", "frames_per_second"}} for line in lines]


def check_same(whole, other):
    """That two runs have the same weights, bit for bit, the same metrics, and the same files."""
    for left, right in zip(runs.load_model(whole).get_weights(), runs.load_model(other).get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert timeless(runs.read_metrics(whole)) == timeless(runs.read_metrics(other))
    files = [
        {str(path.relative_to(run)) for path in run.rglob("*") if "tfevents" not in path.name} for run in (whole, other)
    ]
    assert files[0] == files[1]
    for kind in ("last", "best"):
        steps = [[each.step for each in runs.checkpoints(run, kind)] for run in (whole, other)]
        assert steps[0] == steps[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody killed, and how many file operations it took."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with FileOperations(folder) as operations:
        train(str(folder), **SETTINGS)
    return folder, operations.count


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.3, 0.9])
def test_a_run_that_dies_at_a_file_operation_resumes_to_the_same(whole, tmp_path, place):
    with pytest.raises(Death), FileOperations(tmp_path / "run", int(place * whole[1])):
        train(str(tmp_path / "run"), **SETTINGS)
    train(str(tmp_path / "run"), **SETTINGS)
    check_same(whole[0], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
def test_runs_that_die_at_random_file_operations_resume_to_the_same(tmp_path, replicas):
    devices = Devices(tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(replicas)]))
    with FileOperations(tmp_path / "whole") as operations:
        train(str(tmp_path / "whole"), devices=devices, **SETTINGS)
    random, deaths = np.random.RandomState(replicas), 0
    for number, fatal in enumerate(random.choice(operations.count, RUNS, replace=False)):
        run = tmp_path / str(number)
        for step in (fatal, random.randint(operations.count)):  # killed again while it resumes
            deaths += dies(run, step, lambda run=run: train(str(run), devices=devices, **SETTINGS))
        train(str(run), devices=devices, **SETTINGS)
        check_same(tmp_path / "whole", run)
    print(f"{replicas} replica(s): {deaths} deaths survived in {RUNS} runs of {operations.count} operations")


class Killed:
    """A command in a process of its own, to be killed at file operations and at times."""

    def __init__(self, command, replicas, folder, flags):
        """Runs the command once to its end, in the folder "whole"."""
        self._command, self._replicas, self._folder, self._flags = command, replicas, folder, flags
        before = time.monotonic()
        answer = self._start("count", "whole")
        output, error = answer.communicate()
        assert answer.returncode == 0, error
        self._seconds, self._count = time.monotonic() - before, int(re.search(r"operations: (\d+)", output)[1])

    def _start(self, fatal, name):
        script, folder = Path(__file__).with_name("deaths.py"), self._folder / name
        command = [sys.executable, script, self._command, str(fatal), str(self._replicas), folder, *self._flags(folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def dies_at_an_operation(self, name, random):
        with self._start(random.randint(self._count), name) as process:
            process.communicate()
        assert process.returncode == -signal.SIGKILL

    def dies_at_a_time(self, name, random):
        """The first third is the start of Python and TensorFlow."""
        seconds = random.uniform(0.33, 0.9) * self._seconds
        while not self._dies_after(seconds, name):  # the machine has become faster
            shutil.rmtree(self._folder / name)
            seconds *= 0.8

    def _dies_after(self, seconds, name):
        with self._start("count", name) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=seconds)
            process.kill()
        return process.returncode == -signal.SIGKILL

    def ends(self, name):
        with self._start("count", name) as process:
            _, error = process.communicate()
        assert process.returncode == 0, error

    def die(self, count, seed, check):
        """Dies so often, by turns at an operation and at a time, and checks each after it was started again."""
        random = np.random.RandomState(seed)
        for number in range(count):
            (self.dies_at_a_time if number % 2 else self.dies_at_an_operation)(str(number), random)
            self.ends(str(number))
            check(self._folder / str(number))
        print(f"{self._command}, {self._replicas} replica(s): {count} SIGKILLs survived")


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
def test_processes_that_are_killed_resume_to_the_same(tmp_path, replicas):
    killed = Killed("train", replicas, tmp_path, flags)
    killed.die(PROCESSES, replicas, lambda run: check_same(tmp_path / "whole", run))


@pytest.mark.slow
def test_exports_that_are_killed_are_whole_or_not_there(tmp_path):
    Killed("train", 1, tmp_path, flags)
    out = tmp_path / "exports"
    run = str(tmp_path / "whole")
    killed = Killed("export", 1, out, lambda folder: ["--run_dir", run, "--out", str(folder / "m")])

    def check(folder):
        numbers = sorted(int(path.name) for path in (folder / "m").iterdir())
        assert numbers == list(range(1, len(numbers) + 1))
        assert not list(folder.rglob(f"{files.PREFIX}*"))
        for number in numbers:
            assert np.isfinite(ddr_tf.load(folder / "m" / str(number)).sample().frames).all()

    killed.die(EXPORTS, 3, check)


def start(folder, *bindings):
    command = [sys.executable, "-m", "ddr_tf.train", *flags(folder, *bindings)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


LONG = ("train.steps=20000", "train.checkpoint_every=20000", "train.log_every=1", "train.steps_per_execution=1")


def wait_for_a_step(process, folder):
    while not (folder / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.1)


@pytest.fixture
def nothing_ignored():
    """What runs the tests, as `nohup` or a shell in the background, may ignore signals, and so would its children."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_ignored")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_answered_by_a_checkpoint(tmp_path, number):
    with start(tmp_path / "run", *LONG) as process:
        wait_for_a_step(process, tmp_path / "run")
        process.send_signal(number)
        _, error = process.communicate(timeout=100)
    assert process.returncode == 130, error
    (checkpoint,) = runs.checkpoints(tmp_path / "run", "last")
    assert checkpoint.damage() is None and checkpoint.step > 0
    assert "stopping after a checkpoint of this step" in error
    assert f"stopped; the same command resumes from {checkpoint.path}" in error
    assert runs.read_record(tmp_path / "run")["step"] == checkpoint.step


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_ignored")
def test_a_signal_is_answered_though_nobody_reads_what_is_printed(tmp_path):
    """As `tee` does not, which ends at the same Ctrl-C."""
    with start(tmp_path / "run", *LONG) as process:
        wait_for_a_step(process, tmp_path / "run")
        process.stdout.close()
        process.stderr.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(600) == 130
    (checkpoint,) = runs.checkpoints(tmp_path / "run", "last")
    assert checkpoint.damage() is None and checkpoint.step > 0


def test_a_second_process_is_refused_and_a_crash_leaves_no_lock(finished, tmp_path):
    from ddr_tf.files import Lock

    shutil.copytree(finished[1], tmp_path / "run")
    lock = Lock(tmp_path / "run/lock")
    assert lock.acquire()
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="is being trained by another process"):
        train(str(tmp_path / "run"), **tiny.SETTINGS | {"steps": 12})
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before
    lock.release()
    train(str(tmp_path / "run"), **tiny.SETTINGS)
