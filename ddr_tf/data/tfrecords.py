"""A dataset that is read as a stream from TFRecord shards, which `shards` writes.

Reading is sequential: files in a random order, several at a time, then draws of frames are shuffled in blocks. Memory
is bounded by `memory_mb`, whatever the size of the set.
"""

import math
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from ddr_tf.config import configurable
from ddr_tf.data.sampling import draw_frames, stream_seed
from ddr_tf.data.sequence_dataset import SequenceDataset, StreamSettings
from ddr_tf.data.shards import DESCRIPTION, MEGABYTE, Description, read_description, read_labels
from ddr_tf.errors import UserError
from ddr_tf.files import local_path

MAX_CYCLE = 4  # files that are read at a time
MAX_BLOCK = 4096  # draws that are shuffled at a time


def check_shards(folder: Path, description: Description) -> None:
    """Raises UserError if a shard is missing, or has another size than when it was written."""
    if description.places is None:
        raise UserError(f"The shards in {folder} are not complete; the command that writes them goes on.")
    for name, places in description.places.items():
        path = folder / name
        offset, length = places[-1]
        if not path.is_file() or path.stat().st_size != offset + length + 4:
            state = "has another size than when it was written" if path.is_file() else "is missing"
            raise UserError(f"The shard {path} {state}; write the shards again.")


@configurable()
class TFRecords(SequenceDataset):
    """A dataset in shards.

    `batches` reads them as a stream: every sequence of a split is read once in each pass, in an order of its own, and
    gives `draws_per_record` draws of N frames. Workers divide the files among them. `frames` reads single records and
    cannot be traced: it is for pictures, not for training.
    """

    PATHS = ("folder",)

    def __init__(self, folder: str, memory_mb: int = 256, draws_per_record: int = 4) -> None:
        """Opens the folder and checks that all shards are there, whole.

        Args:
          folder: Written by `write_shards`.
          memory_mb: Bound of what a reader holds, in megabytes.
          draws_per_record: Draws of N frames each time a record is read. A record is a whole sequence, so more draws
            read less for each, and give the same sequence more often in a block.

        Raises:
          UserError: If something is missing, cut short or not of this kind.
        """
        if memory_mb < 1 or draws_per_record < 1:
            raise UserError(
                f"TFRecords.memory_mb and TFRecords.draws_per_record must be at least 1, got {memory_mb} and "
                f"{draws_per_record}."
            )
        self._folder = local_path(folder)
        self._memory, self._draws = memory_mb * MEGABYTE, draws_per_record
        description = read_description(self._folder)
        check_shards(self._folder, description)
        self._shards = description.shards
        self._places = {
            number: (name, *place)
            for name, numbers in description.shards.items()
            for number, place in zip(numbers, description.places[name], strict=True)
        }
        counts = description.dataset["frame_counts"]
        labels = read_labels(self._folder, {"static": len(counts), "frame": sum(counts), "pose": sum(counts)})
        known = dict(
            static_labels=labels["static"], frame_labels=labels["frame"], pose_numbers=labels["pose"].get("pose")
        )
        try:
            super().__init__(**description.dataset, **known)
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self._folder / DESCRIPTION} describes no dataset ({error}); delete it and write the shards again."
            ) from error
        self.licence = description.licence
        largest = max(length for _, _, length in self._places.values())
        # A record is held as read and as parsed, and by each of the files that are read at a time.
        self._cycle = min(MAX_CYCLE, self._memory // (4 * largest))
        if not self._cycle:
            raise UserError(
                f"TFRecords.memory_mb must be at least {math.ceil(4 * largest / MEGABYTE)}, four times the largest "
                f"record of {self._folder}; got {memory_mb}."
            )

    def frames(self, sequence: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
        """See `SequenceDataset.frames`; not to be traced."""
        sequence, frame = np.asarray(sequence), np.asarray(frame)
        frames = np.empty((sequence.size, *self.frame_shape), np.uint8)
        for number in np.unique(sequence):
            name, offset, length = self._places[number]
            try:
                with (self._folder / name).open("rb") as file:
                    file.seek(offset)
                    encoded = self._encoded(file.read(length), number)
                for row in np.flatnonzero(sequence.ravel() == number):
                    frames[row] = self._decoded(encoded[frame.ravel()[row]])
            except (OSError, ValueError, IndexError) as error:
                raise self._damaged(name) from error
        return tf.constant(frames.reshape(*sequence.shape, *self.frame_shape))

    def _encoded(self, record: bytes, number: int) -> list[bytes]:
        """The PNGs in the record of a sequence; raises ValueError if it is the record of something else."""
        try:
            features = tf.train.Example.FromString(record).features.feature
        except DecodeError as error:
            raise ValueError("it cannot be parsed") from error
        encoded = list(features["frames"].bytes_list.value)
        if list(features["number"].int64_list.value) != [number] or len(encoded) != self.frame_counts[number]:
            raise ValueError(f"it is not that of sequence {number}")
        return encoded

    def _decoded(self, encoded: bytes) -> np.ndarray:
        """A PNG as a frame; raises ValueError if it is none."""
        try:
            pixels = tf.io.decode_png(encoded).numpy()
        except tf.errors.OpError as error:
            raise ValueError("a frame cannot be decoded") from error
        if pixels.shape != self.frame_shape:
            raise ValueError(f"a frame is of shape {list(pixels.shape)}")
        return pixels

    def _damaged(self, name: str) -> UserError:
        return UserError(f"The shard {self._folder / name} is damaged; write the shards again.")

    def damage(self) -> str | None:
        """See `SequenceDataset.damage`: reads all records, with their checksums."""
        for name, numbers in self._shards.items():
            try:
                records = tf.data.TFRecordDataset(os.fsencode(self._folder / name)).as_numpy_iterator()
                for number, record in zip(numbers, records, strict=True):
                    for encoded in self._encoded(record, number):
                        self._decoded(encoded)
            except (OSError, ValueError, tf.errors.OpError):
                return str(self._damaged(name))
        return None

    def _stream(self, settings: StreamSettings) -> tf.data.Dataset:
        """See `SequenceDataset.batches`; but each worker reads files of its own, so its batches are its own, too.

        To start at a later step, records are read up to there, at most one pass through the split.

        Raises:
          UserError: If there are fewer files than workers.
        """
        split = settings.split
        files = [name for name in self._shards if name.startswith(f"{split}-")][settings.worker :: settings.num_workers]
        if not files:
            raise UserError(f"{self._folder} has fewer '{split}' shards than there are workers; write smaller shards.")
        batch_size, num_frames = settings.worker_batch_size, settings.num_frames
        numbers = [number for name in files for number in self._shards[name]]
        first_pass, done = divmod(settings.start_step * batch_size, len(numbers) * self._draws)
        key = tf.random.fold_in(stream_seed(settings.seed, split), settings.worker)
        passes = tf.data.Dataset.counter(np.int64(first_pass))
        stream = passes.flat_map(lambda number: self._one_pass(files, tf.random.fold_in(key, number), settings))
        stream = stream.skip(done).map(
            lambda encoded: self._frames_of(encoded, num_frames),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        # Keras warns when a stream of unknown length ends, even where that end was asked for.
        endless = tf.data.experimental.assert_cardinality(tf.data.experimental.INFINITE_CARDINALITY)
        return stream.batch(batch_size, drop_remainder=True).apply(endless).prefetch(2)

    def _one_pass(self, files: list[str], key: tf.Tensor, settings: StreamSettings) -> tf.data.Dataset:
        """All sequences in some files, in an order that the key gives: string `[N]` for each draw, PNGs."""
        order, block_seed, frame_seed = tf.unstack(tf.random.split(key, 3))
        paths = tf.constant([os.fsencode(self._folder / name) for name in files])
        records = _shuffled(paths, order).interleave(
            tf.data.TFRecordDataset, cycle_length=self._cycle, num_parallel_calls=self._cycle, deterministic=True
        )
        draws = records.flat_map(lambda record: self._draws_of(record, frame_seed, settings))
        # Shuffled a block at a time, since `Dataset.shuffle` cannot be a function of a seed alone.
        numbers = [number for name in files for number in self._shards[name]]
        blocks = draws.batch(self._block(numbers, settings.num_frames)).enumerate().prefetch(1)
        return blocks.flat_map(lambda number, encoded: _shuffled(encoded, tf.random.fold_in(block_seed, number)))

    def _frames_of(self, encoded: tf.Tensor, num_frames: int) -> tf.Tensor:
        """PNGs, string `[N]`, as frames, uint8 `[N, H, W, C]`."""
        frames = tf.stack([tf.io.decode_png(encoded[i], self.frame_shape[-1]) for i in range(num_frames)])
        return tf.ensure_shape(frames, (num_frames, *self.frame_shape))

    def _block(self, numbers: list[int], num_frames: int) -> int:
        """How many draws of N frames of these sequences are shuffled at a time."""
        drawn_bytes = num_frames * sum(self._places[number][2] for number in numbers)
        drawn_bytes //= int(self.frame_counts[numbers].sum())
        # Half of the memory is for three blocks: one in use, one that is ready, and one that is being read.
        return min(MAX_BLOCK, max(1, self._memory // (2 * 3 * max(1, drawn_bytes))))

    def _draws_of(self, record: tf.Tensor, key: tf.Tensor, settings: StreamSettings) -> tf.data.Dataset:
        """Draws of N frames of the sequence in a record: string `[N]` each, PNGs."""
        features = {"number": tf.io.FixedLenFeature([], tf.int64), "frames": tf.io.VarLenFeature(tf.string)}
        example = tf.io.parse_single_example(record, features)
        encoded, number = example["frames"].values, example["number"]
        # A record of another sequence would fit as well, and be trained on unnoticed.
        tf.debugging.assert_equal(tf.gather(self.frame_counts, number), tf.size(encoded), "A shard is damaged.")
        seeds = tf.random.split(tf.random.fold_in(key, number), self._draws)
        counts = tf.fill([1], tf.size(encoded))
        drawn = [draw_frames(one, counts, settings.num_frames, settings.num_neighbours) for one in tf.unstack(seeds)]
        frame = tf.concat(drawn, axis=0)
        return tf.data.Dataset.from_tensor_slices(tf.gather(encoded, frame))


def _shuffled(elements: tf.Tensor, seed: tf.Tensor) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(tf.random.experimental.stateless_shuffle(elements, seed))
