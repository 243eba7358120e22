"""Several devices, and several processes that train together on this machine."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from test_train import flags

from conftest import GIN
from ddr_tf import train
from ddr_tf.data.puppets import Puppets
from ddr_tf.data.shards import write_shards
from ddr_tf.errors import UserError
from ddr_tf.runs import load_model
from ddr_tf.training import devices

SETTINGS = ("train.batch_size=4", "train.held_out_batches=2")


def tf_config(**changes):
    return json.dumps({"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}} | changes)


def test_tf_config():
    assert devices.read_tf_config(tf_config()) == (["a:1", "b:2"], 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "needs the environment variable TF_CONFIG, for example"),
        ("{", "TF_CONFIG is no JSON"),
        ("[]", "TF_CONFIG names no cluster.worker"),
        (tf_config(cluster={"worker": []}), "TF_CONFIG names no cluster.worker"),
        (tf_config(cluster={"worker": ["a:1"], "ps": ["b:2"]}), "names cluster.ps; all must be in cluster.worker"),
        (tf_config(cluster={"worker": ["a"]}), 'must be host:port each, got "a"'),
        (tf_config(cluster={"worker": ["a:1", "a:1"]}), "names an address twice"),
        (tf_config(task={"type": "chief", "index": 0}), 'task.type must be "worker", got "chief"'),
        (tf_config(task={"type": "worker", "index": 2}), "task.index must be 0 to 1, got 2"),
        (tf_config(task={"type": "worker", "index": "1"}), 'task.index must be 0 to 1, got "1"'),
    ],
)
def test_a_wrong_tf_config_is_refused(text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        devices.read_tf_config(text)


def test_several_workers_need_tf_config(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert train.main([*flags(tmp_path / "run"), "--strategy", "multi_worker"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: --strategy multi_worker needs the environment variable TF_CONFIG")
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_a_port_in_use_is_refused(monkeypatch):
    with socket.create_server(("", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        task = {"type": "worker", "index": 0}
        monkeypatch.setenv("TF_CONFIG", tf_config(cluster={"worker": [address]}, task=task))
        with pytest.raises(UserError, match=rf"Port \d+ of {address} cannot be used \(.*in use"):
            devices.make_devices("multi_worker")


def test_replicas_and_workers_are_counted():
    two = devices.Devices(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    assert (two.num_replicas, two.num_workers, two.worker) == (2, 1, 0)


@pytest.mark.parametrize(
    ("cores", "workers", "batch_size", "splits"),
    [(2, 1, 8, 2), (4, 1, 8, 4), (8, 1, 8, 8), (3, 1, 8, 1), (3, 1, 6, 3), (17, 1, 17, 1), (4, 2, 8, 4), (4, 2, 4, 1)],
)
def test_splits_are_equal_and_one_a_core(cores, workers, batch_size, splits, monkeypatch):
    monkeypatch.setattr(devices, "num_cores", lambda: cores)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    assert devices.even_splits([batch_size], workers) == splits
    assert devices.even_splits([batch_size, 2 * batch_size], workers) == splits
    assert devices.even_splits([batch_size, 2 * batch_size + 1], workers) == 1
    assert devices.even_splits([], workers) == 1


def test_with_views_a_part_has_two_sequences_or_more(monkeypatch):
    monkeypatch.setattr(devices, "num_cores", lambda: 4)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    assert devices.even_splits([4], 1) == 4
    assert [devices.even_splits([size], 1, views=True) for size in (4, 8)] == [1, 4]


def test_batches_are_not_split_among_the_cores_of_a_machine_with_a_gpu(monkeypatch):
    monkeypatch.setattr(devices, "num_cores", lambda: 2)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["GPU:0"])
    assert devices.even_splits([8], 1) == 1


def test_threads_stay_as_they_are_where_tensorflow_has_been_used():
    assert devices.make_devices(batch_sizes=[devices.num_cores()]).batch_splits == 1
    assert tf.config.threading.get_intra_op_parallelism_threads() == 0


@pytest.mark.slow
def test_operations_have_one_core_each_if_batches_can_be_divided_among_all():
    code = (
        "import sys; from ddr_tf.training import devices;"
        "print(devices.make_devices(batch_sizes=[int(sys.argv[1])]).batch_splits)"
    )
    cores = devices.num_cores()
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    splits = [
        int(subprocess.check_output([sys.executable, "-c", code, str(batch_size)], text=True, env=environment))
        for batch_size in (3 * cores, 3 * cores + 1)
    ]
    assert splits == [cores if cores <= devices.MAX_BATCH_SPLITS else 1, 1]


def test_a_batch_must_be_shared_equally():
    two = devices.Devices(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    two.check_batch_size(4)
    with pytest.raises(UserError, match="must be a multiple of the 2 devices, got 3"):
        two.check_batch_size(3)


def test_with_views_a_device_has_two_sequences_or_more():
    two = devices.Devices(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    two.check_batch_size(2)
    two.check_batch_size(4, views=True)
    with pytest.raises(UserError, match=r"train\.batch_size must be at least 4, got 2"):
        two.check_batch_size(2, views=True)


def test_one_worker_agrees_with_itself():
    two = devices.Devices(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    two.check_same({"the step": 3, "the data": "x"})


@contextlib.contextmanager
def workers(run_dir, *bindings, arguments=((), ())):
    """Two processes that train together: their `Popen`, and where they listen."""
    with socket.create_server(("", 0)) as one, socket.create_server(("", 0)) as two:
        addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in (one, two)]
    command = [sys.executable, "-m", "ddr_tf.train", *flags(run_dir, *SETTINGS, *bindings)]
    processes = [
        subprocess.Popen(
            [*command, "--strategy", "multi_worker", *arguments[index]],
            env=os.environ
            | {"TF_CONFIG": tf_config(cluster={"worker": addresses}, task={"type": "worker", "index": index})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        yield processes, addresses
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def together(run_dir, *bindings, **kwargs):
    """What two processes say: (status, stdout, stderr) of each."""
    with workers(run_dir, *bindings, **kwargs) as (processes, _):
        said = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *both) for process, both in zip(processes, said, strict=True)]


def weights(run_dir):
    return load_model(run_dir).get_weights()


def metrics(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_two_processes_give_the_weights_and_figures_of_one(tmp_path):
    assert train.main(flags(tmp_path / "one", *SETTINGS)) == 0
    answers = together(tmp_path / "two")
    assert [status for status, _, _ in answers] == [0, 0], answers
    assert "steps 0 to 6 on 2 device(s)" in answers[0][1]
    assert "device(s)" not in answers[1][1]
    for left, right in zip(weights(tmp_path / "one"), weights(tmp_path / "two"), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-5)
    for left, right in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert left.keys() == right.keys()
        for name in left.keys() - {"minutes", "frames_per_second"}:
            assert left[name] == (right[name] if name == "split" else pytest.approx(right[name], rel=1e-3)), name
    files = [{path.name for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]


@pytest.mark.slow
def test_a_killed_worker_ends_the_job_which_resumes_to_the_same_weights(tmp_path):
    longer = ("train.steps=60", "train.checkpoint_every=20", "train.log_every=20")
    answers = together(tmp_path / "whole", *longer)
    assert [status for status, _, _ in answers] == [0, 0], answers
    with workers(tmp_path / "killed", *longer) as (processes, addresses):
        while not (tmp_path / "killed/checkpoints/last/checkpoint").exists():
            assert [process.poll() for process in processes] == [None, None]
            time.sleep(0.01)
        processes[1].kill()
        _, error = processes[0].communicate(timeout=60)
    assert processes[0].returncode == 2
    assert f"Worker 1 at {addresses[1]} is gone (its connection closed); start all workers again" in error
    assert f"the last good checkpoint is {tmp_path / 'killed/checkpoints/last/ckpt-'}" in error
    assert not (tmp_path / "killed/model.keras").exists()
    answers = together(tmp_path / "killed", *longer)
    assert [status for status, _, _ in answers] == [0, 0], answers
    assert "steps 20 to 60" in answers[0][1] or "steps 40 to 60" in answers[0][1]
    for left, right in zip(weights(tmp_path / "whole"), weights(tmp_path / "killed"), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.slow
def test_workers_read_shards_of_their_own(tmp_path):
    write_shards(Puppets(size=16, num_poses=8), tmp_path / "shards", shard_mb=0.5)
    shards = ["--gin_file", str(GIN / "shards.gin"), "--gin_param", f"TFRecords.folder='{tmp_path / 'shards'}'"]
    answers = together(tmp_path / "run", arguments=(shards, shards))
    assert [status for status, _, _ in answers] == [0, 0], answers


@pytest.mark.slow
def test_workers_that_would_do_something_else_are_refused(tmp_path):
    answers = together(tmp_path / "run", arguments=((), ("--seed", "1")))
    assert [status for status, _, _ in answers] == [2, 2], answers
    assert any("Workers 0 and 1 differ in their settings" in error for _, _, error in answers), answers
