"""A run directory whose process dies at any file operation: what a resumed run finds is that of one that did not die.

The steps here are no training but change the weights in a known way, so that hundreds of deaths can be tried.
"""

import numpy as np
import pytest
import tensorflow as tf
from deaths import Death, FileOperations, dies

from conftest import RandomDataset
from ddr_tf import config, files, runs
from ddr_tf.training import run_directory
from ddr_tf.training.build import build
from ddr_tf.training.checkpoints import steps_done
from ddr_tf.training.devices import Devices
from ddr_tf.training.loop import train
from ddr_tf.training.settings import Settings
from tiny import SIZE_BINDINGS

STEPS = 4
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files of the dead


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=["1 replica", "2 replicas"])
def world(request):
    """Devices, a dataset, and a model of which each run begins with weights of 0."""
    config.load([], ["train.sequences = @Puppets", "train.model = @DDR", f"train.steps = {STEPS}", *SIZE_BINDINGS])
    devices = Devices(tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(request.param)]))
    dataset = RandomDataset()
    return devices, dataset, build(Settings(**config.settings(train)), devices, dataset.frame_shape)


@pytest.fixture(autouse=True)
def no_projector(monkeypatch):
    """It reads frames, which takes long, and is written as other files are."""
    monkeypatch.setattr(run_directory, "write_projector", lambda *_: None)


def elbo(step):
    """The best is that of step 2."""
    return -abs(step - 2.0)


def run_to_the_end(folder, devices, dataset, ddr):
    for variable in (*ddr.variables, *ddr.optimizer.variables):
        variable.assign(tf.zeros_like(variable))
    run = run_directory.Run(folder, 0, dataset, devices, config.operative())
    with run.opened(ddr, STEPS) as step:
        assert step == steps_done(ddr)
        while step < STEPS and not run.finished:
            step += 1
            ddr.optimizer.iterations.assign(step)
            for variable in ddr.trainable_variables:
                variable.assign_add(tf.ones_like(variable) / step)
            run.log("train", step, {"elbo": float(step)})
            if step % 2 == 0:
                run.log("held_out", step, {"elbo": elbo(step)})
                run.save(step, elbo(step), {"sums": {"elbo": 0.1 * step}, "steps": 1, "seconds": 0.0})
        if not run.finished:
            run.use_best(ddr)
            run.finish(ddr, STEPS, {"samples": np.zeros((4, 4, 3), np.uint8)})


def state(folder):
    """All that must be the same: weights, metrics, the record, names of files, checkpoints."""
    events = "tfevents"
    lines = [{name: value for name, value in line.items() if name != "minutes"} for line in runs.read_metrics(folder)]
    checkpoints = {
        kind: [(each.step, each.damage(), each.manifest["log"]) for each in runs.checkpoints(folder, kind)]
        for kind in (runs.LAST, runs.BEST)
    }
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if events not in path.name)
    record = {name: runs.read_record(folder)[name] for name in ("step", "finished", "data")}
    return [weights.tolist() for weights in runs.load_model(folder).get_weights()], lines, checkpoints, names, record


def survive(world, folder, deaths, expected):
    """Dies at these operations, one after the other, then goes on to the end."""
    for fatal in deaths:
        dies(folder, fatal, lambda: run_to_the_end(folder, *world))
    run_to_the_end(folder, *world)
    assert state(folder) == expected, deaths


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """The state of a run that did not die, and how many file operations it took."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch, FileOperations(folder) as operations:
        patch.setattr(run_directory, "write_projector", lambda *_: None)
        run_to_the_end(folder, *world)
    return state(folder), operations.count


def test_a_run_survives_deaths_at_some_operations(world, whole, tmp_path):
    expected, count = whole
    random = np.random.RandomState(0)
    for number, fatal in enumerate(random.choice(count, 3, replace=False)):
        survive(world, tmp_path / str(number), [fatal, random.randint(count)], expected)


def test_what_a_death_in_the_first_checkpoint_leaves_is_removed(world, whole, tmp_path, monkeypatch):
    def dies_in(run, *_):
        for kind in ("last", "best"):
            (run.shared / "checkpoints" / kind / f"{files.PREFIX}of_the_dead").mkdir(parents=True)
        raise Death

    with monkeypatch.context() as patch, pytest.raises(Death):
        patch.setattr(run_directory.Run, "save", dies_in)
        run_to_the_end(tmp_path / "run", *world)
    survive(world, tmp_path / "run", [], whole[0])


@pytest.mark.slow
def test_a_run_survives_a_death_at_every_operation(world, whole, tmp_path):
    expected, count = whole
    for fatal in range(count):
        survive(world, tmp_path / str(fatal), [fatal], expected)
    print(f"{count} deaths survived of {count}")
