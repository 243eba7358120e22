"""The devices, of one machine or of several, that a run is trained on.

There is one process a machine, and in it one replica of the model a device. All replicas have the same weights, and
each gets its part of every batch, so their number changes nothing but the speed (and the last bits of sums; with two
views of each sequence also which other sequence of the part f is of, see `Bounds.elbo_terms`). With several processes
the first is the chief: what it writes is the run directory.
"""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ddr_tf.errors import UserError

MIRRORED, MULTI_WORKER = STRATEGIES = ("mirrored", "multi_worker")
MAX_BATCH_SPLITS = 16
_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


def num_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Devices:
    """What a run is trained on.

    Attributes:
      strategy: TensorFlow's, with one replica a device.
      batch_splits: Into how many equal parts each replica splits its part of a batch, to compute them side by side on
        the cores; 1 if operations use all cores.
      num_workers: How many processes train together.
      worker: Which of them this is; 0 is the chief.
    """

    def __init__(self, strategy: tf.distribute.Strategy, batch_splits: int = 1) -> None:
        """Keeps them."""
        self.strategy, self.batch_splits = strategy, batch_splits
        resolver = strategy.cluster_resolver
        self.addresses = resolver.cluster_spec().job_tasks("worker") if resolver else ["localhost"]
        self.num_workers, self.worker = len(self.addresses), resolver.task_id if resolver else 0

    @property
    def num_replicas(self) -> int:
        """How many replicas there are, over all workers."""
        return self.strategy.num_replicas_in_sync

    def check_batch_size(self, batch_size: int, views: bool = False) -> None:
        """Raises UserError if the devices cannot share a batch equally, or with two views have one sequence each."""
        if batch_size % self.num_replicas:
            raise UserError(
                f"train.batch_size must be a multiple of the {self.num_replicas} devices, got {batch_size}."
            )
        if views and batch_size < 2 * self.num_replicas:
            raise UserError(
                "With train.augmentation, z of each sequence is found given f of another, so train.batch_size must be "
                f"at least {2 * self.num_replicas}, got {batch_size}."
            )

    def check_same(self, values: dict[str, Any]) -> None:
        """Waits for all workers, and checks that they are about to do the same.

        Args:
          values: What must be the same for all -> its value, anything with a `repr`.

        Raises:
          UserError: If one of them is not.
        """
        digests = [hashlib.blake2b(repr(value).encode(), digest_size=4).digest() for value in values.values()]
        rows = self._of_all_replicas([float(int.from_bytes(digest)) for digest in digests])
        for name, column in zip(values, rows.T, strict=True):
            if (column != column[0]).any():
                other = int((column != column[0]).argmax()) * self.num_workers // len(column)
                raise UserError(
                    f"Workers 0 and {other} differ in {name}. All need the same command, and the same --run_dir on a "
                    "file system that they share."
                )

    def _of_all_replicas(self, numbers: list[float]) -> np.ndarray:
        """The numbers of each replica, float64 `[replicas, len(numbers)]`."""

        def of_one() -> tf.Tensor:
            replica = tf.distribute.get_replica_context()
            row = tf.one_hot(replica.replica_id_in_sync_group, replica.num_replicas_in_sync, dtype=tf.float64)
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, row[:, None] * tf.constant([numbers], tf.float64))

        run = tf.function(lambda: self.strategy.experimental_local_results(self.strategy.run(of_one))[0])
        return run().numpy()

    @contextlib.contextmanager
    def lost_workers(self, last_good: Callable[[], str]) -> Iterator[None]:
        """Turns what TensorFlow raises when another worker has ended, or does not answer, into a `UserError`.

        Args:
          last_good: Says from where the run resumes.
        """
        try:
            yield
        except tf.errors.OpError as error:
            lost = re.search(
                r"Collective ops is aborted by: .*?/job:worker/(?:replica:0/)?task:(\d+)", str(error), re.DOTALL
            )
            if not lost:
                raise
            reason = "it stopped answering" if "heartbeats" in str(error) else "its connection closed"
            raise UserError(
                f"Worker {lost[1]} at {self.addresses[int(lost[1])]} is gone ({reason}); start all workers again with "
                f"the same command: {last_good()}."
            ) from error


def _give_each_operation_one_core() -> bool:
    """Lets as many operations run at once as there are cores, each on one: none waits for what cannot be divided.

    TensorFlow takes this only before it has done anything.

    Returns:
      Whether it took it.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(num_cores())
    except RuntimeError:
        return False
    return True


def even_splits(batch_sizes: Iterable[int], num_workers: int, views: bool = False) -> int:
    """Into how many parts batches of all these sizes can be divided, one a core; otherwise 1.

    With two views of each sequence z is found given f of another one of the part, so a part has two at least.
    """
    cores, sizes = num_cores(), list(batch_sizes)
    parts, least = num_workers * cores, 2 if views else 1
    divisible = sizes and not any(size % parts or size < least * parts for size in sizes)
    return cores if divisible and cores <= MAX_BATCH_SPLITS and not tf.config.list_physical_devices("GPU") else 1


def make_devices(name: str = MIRRORED, batch_sizes: Iterable[int] = (), views: bool = False) -> Devices:
    """The devices that a run is trained on.

    Without a GPU, if every batch can be divided among the cores, operations then have one core each, in all of this
    process, and `batch_splits` is the number of cores. So what is not split has one core: in training, the held-out
    evaluations. This is not done with more than `MAX_BATCH_SPLITS` cores, since a graph holds the model once for each
    part.

    Args:
      name: "mirrored": all GPUs of this machine, or its CPU. "multi_worker": those of all machines that the environment
        variable TF_CONFIG names; waits for them. It must be made before TensorFlow has done anything else.
      batch_sizes: The B that will be trained with.
      views: Whether there will be two views of each sequence, as with `train.augmentation`.

    Raises:
      UserError: If TF_CONFIG is missing or wrong, or this worker's port is in use.
    """
    addresses, index = read_tf_config(os.environ.get("TF_CONFIG")) if name == MULTI_WORKER else (["localhost"], 0)
    splits = even_splits(batch_sizes, len(addresses), views)
    if splits > 1 and not _give_each_operation_one_core():
        splits = 1
    if name == MIRRORED:
        gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
        return Devices(tf.distribute.MirroredStrategy(gpus or ["CPU:0"]), splits)
    return Devices(_join(addresses, index), splits)


def _join(addresses: list[str], index: int) -> tf.distribute.Strategy:
    """Waits for all workers."""
    _check_port(addresses[index])
    print(f"worker {index} of {len(addresses)} at {addresses[index]}: waiting for all to start", flush=True)
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)  # while it waits in C++, Python's is not called
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        signal.signal(signal.SIGINT, handler)


def read_tf_config(text: str | None) -> tuple[list[str], int]:
    """The addresses of all workers, and which of them this one is.

    Args:
      text: JSON; None: the environment variable is not set.

    Raises:
      UserError: If it does not say so.
    """
    if not text:
        raise UserError(f"--strategy {MULTI_WORKER} needs the environment variable TF_CONFIG, for example {_EXAMPLE}.")
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"TF_CONFIG is no JSON ({error}); it must be like {_EXAMPLE}.") from error
    cluster, task = (settings.get(key) if isinstance(settings, dict) else None for key in ("cluster", "task"))
    addresses = cluster.get("worker") if isinstance(cluster, dict) else None
    if not isinstance(addresses, list) or not addresses:
        raise UserError(f"TF_CONFIG names no cluster.worker; it must be like {_EXAMPLE}.")
    if others := sorted(cluster.keys() - {"worker"}):
        raise UserError(f"TF_CONFIG names cluster.{others[0]}; all must be in cluster.worker, the first is the chief.")
    for address in addresses:
        if not isinstance(address, str) or not re.fullmatch(r".+:\d{1,5}", address):
            raise UserError(f"TF_CONFIG: cluster.worker must be host:port each, got {json.dumps(address)}.")
    if len(set(addresses)) < len(addresses):
        raise UserError("TF_CONFIG: cluster.worker names an address twice.")
    kind, index = (task.get(key) if isinstance(task, dict) else None for key in ("type", "index"))
    if kind != "worker":
        raise UserError(f'TF_CONFIG: task.type must be "worker", got {json.dumps(kind)}.')
    if type(index) is not int or not 0 <= index < len(addresses):
        raise UserError(f"TF_CONFIG: task.index must be 0 to {len(addresses) - 1}, got {json.dumps(index)}.")
    return addresses, index


def _check_port(address: str) -> None:
    """Raises UserError if something listens there: TensorFlow would share the port with it, and wait for ever."""
    port = int(address.rpartition(":")[2])
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # even just after another run
        try:
            server.bind(("", port))
        except (OSError, OverflowError) as error:
            raise UserError(f"Port {port} of {address} cannot be used ({error}); give another in TF_CONFIG.") from error
