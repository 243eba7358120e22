"""Configurations that are measured: their gin files, and a compiled model with its data for each."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from ddr_tf import config
from ddr_tf.benchmarking.computations import training_steps
from ddr_tf.benchmarking.timing import Timed
from ddr_tf.data.sequence_dataset import TRAIN, SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.model import flops
from ddr_tf.model.ddr import DDR
from ddr_tf.training.build import build
from ddr_tf.training.devices import Devices, make_devices
from ddr_tf.training.loop import train
from ddr_tf.training.settings import Settings

DETAILED = ("sprites", "sprites_small")  # of the shipped configurations: the paper's network and that for 2 cores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The dataset of a configuration, or why it is missing.

    Attributes:
      dataset: The dataset; None if its data are missing.
      reason: Why they are missing; None if they are not.
      seconds: The time to make the dataset.
    """

    dataset: SequenceDataset | None = None
    reason: str | None = None
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A configuration, ready to be measured.

    Attributes:
      name: The name of its gin file, without the suffix.
      gin_file: Its path.
      devices: What it is trained on.
      ddr: Its model, compiled as for training.
      batch_size: B of its steps here.
      num_frames: N.
      steps: Updates in one execution.
      training: Executions of the train function.
      source: Its dataset.
      batches: The stream that it would be trained on; None if the data are missing.
    """

    name: str
    gin_file: str
    devices: Devices
    ddr: DDR
    batch_size: int
    num_frames: int
    steps: int
    training: Timed
    source: Source
    batches: tf.data.Dataset | None

    @property
    def frames(self) -> int:
        """Frames of a step."""
        return self.batch_size * self.num_frames

    @property
    def flops(self) -> dict[str, flops.Flops]:
        """Operations a frame, by part of the model."""
        return flops.per_frame(self.num_frames, self.ddr.get_config())

    @property
    def gflop_per_frame(self) -> float:
        """Operations a frame of a training step, in 10^9."""
        return flops.total(self.flops).both / 1e9


class Configurations:
    """The gin files that are measured, all with the same bindings.

    Attributes:
      gin_files: Their paths.
      names: Their names, without the suffix.
      left_out: Name of a shipped gin file that is not measured -> why.
    """

    def __init__(
        self, gin_files: Sequence[str], bindings: Sequence[str], data_dir: str | None, max_frames: int
    ) -> None:
        """Reads all of them, so that mistakes show now, not after minutes.

        Args:
          gin_files: One configuration each; empty: all shipped ones that can be trained on as they are.
          bindings: As for `config.load`.
          data_dir: As for `config.load`.
          max_frames: The most frames of a step; configurations with more get fewer sequences.

        Raises:
          UserError: If a gin file is wrong, or two have the same name.
        """
        self._bindings, self._data_dir, self._max_frames = bindings, data_dir, max_frames
        self._sources: dict[str, Source] = {}
        self.left_out: dict[str, str] = {}
        self.gin_files = [str(path) for path in gin_files] or self._shipped()
        self.names = [Path(path).stem for path in self.gin_files]
        if len(set(self.names)) < len(self.names):
            raise UserError(f"Two gin files have the same name: {', '.join(self.names)}.")
        self._batch_sizes = [self._checked_batch_size(path) for path in self.gin_files]

    def devices(self) -> Devices:
        """The devices, with one strategy for all: two in a process would share TensorFlow's collectives."""
        return make_devices(batch_sizes=self._batch_sizes)

    def _load(self, gin_file: str) -> dict[str, Any]:
        config.load([gin_file], self._bindings, self._data_dir)
        return config.settings(train)

    def _shipped(self) -> list[str]:
        """The shipped gin files that need no more settings; why others are left out goes to `left_out`."""
        paths = sorted(config.SHIPPED.glob("*.gin")) if config.SHIPPED else []
        if not paths:
            raise UserError("There are no gin files that come with ddr_tf; name some with --gin_file.")
        complete = []
        for path in paths:
            try:
                self._load(str(path))
                complete.append(str(path))
            except UserError as error:
                self.left_out[path.stem] = str(error)
        if not complete:
            raise UserError(next(iter(self.left_out.values())))
        return complete

    def _checked_batch_size(self, gin_file: str) -> int:
        settings = self._load(gin_file)
        if settings["num_frames"] > self._max_frames:
            raise UserError(
                f"--max_frames must be at least the frames of one sequence, {settings['num_frames']} in {gin_file}, "
                f"got {self._max_frames}."
            )
        return self._batch_size(settings)

    def _batch_size(self, settings: dict[str, Any], replicas: int = 1) -> int:
        """B of a configuration here."""
        return min(settings["batch_size"], max(self._max_frames // settings["num_frames"] // replicas, 1) * replicas)

    def build(self, gin_file: str, devices: Devices) -> Subject:
        """Builds, compiles and warms up a configuration.

        Raises:
          UserError: If it cannot be trained.
        """
        settings = self._load(gin_file)
        num_frames, steps = settings["num_frames"], settings["steps_per_execution"]
        batch_size = self._batch_size(settings, devices.num_replicas)
        source = self._source(settings["sequences"])
        dataset = source.dataset
        shape = (
            dataset.frame_shape
            if dataset
            else settings["sequences"].frame_shape_of(**config.settings(settings["sequences"]))
        )
        if shape is None:
            raise UserError(source.reason)
        ddr = build(Settings(**settings | {"batch_size": batch_size}), devices, shape)
        return Subject(
            name=Path(gin_file).stem,
            gin_file=gin_file,
            devices=devices,
            ddr=ddr,
            batch_size=batch_size,
            num_frames=num_frames,
            steps=steps,
            training=Timed(training_steps(ddr, devices, batch_size, num_frames, steps)),
            source=source,
            batches=dataset.batches(TRAIN, batch_size, num_frames, settings["seed"]) if dataset else None,
        )

    def _source(self, make: Callable[[], SequenceDataset]) -> Source:
        """The dataset, made once for all configurations with the same settings of it."""
        key = f"{make.__name__} {config.settings(make)}"
        if key not in self._sources:
            start = time.perf_counter()
            try:
                made = {"dataset": make()}
            except UserError as error:
                made = {"reason": str(error).splitlines()[0]}  # gin appends where it was called
            self._sources[key] = Source(**made, seconds=time.perf_counter() - start)
        return self._sources[key]
