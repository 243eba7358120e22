"""TFRecord shards, for what does not fit in memory: written from any dataset, read as a stream.

A folder of shards holds

    dataset.json                         what `SequenceDataset` knows, and the place of every record
    labels.npz                           labels, "static/<name>" and "frame/<name>"
    train-00000-of-00008.tfrecord, ...   and the same for held_out

Each record is a `tf.train.Example` of one whole sequence:

    id                 bytes [1]   its name in the dataset
    number             int64 [1]   its number in the dataset
    frames             bytes [T]   PNG, lossless
    static/<name>      float [1]   a label of the sequence
    frame/<name>       float [T]   a label of its frames

PNG keeps every bit, so a model sees the same frames from shards as from what they were written from. Reading is
sequential: files in a random order, several at a time, then draws of frames are shuffled in blocks. Memory is bounded
by `memory_mb`, whatever the size of the set.
"""

import hashlib
import json
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tqdm import tqdm

from ddr_tf.config import configurable
from ddr_tf.data.sampling import draw_frames, stream_seed
from ddr_tf.data.sequence_dataset import SequenceDataset, share_of_batch
from ddr_tf.errors import UserError

FORMAT = 1
MEGABYTE = 1_000_000  # bytes
DESCRIPTION, LABELS = "dataset.json", "labels.npz"
SHARD_MB = 64  # about, of frames before compression; small enough to spread over workers
BLOCK = 1024  # frames encoded at once
SHUFFLE_SEED = 423  # of the order in which sequences are put into shards
MAX_CYCLE = 4  # files that are read at a time
MAX_BLOCK = 4096  # draws that are shuffled at a time
_LENGTH = struct.Struct("<Q")  # a record: its length, 4 bytes of checksum, its data, 4 bytes of checksum


def shard_name(split: str, number: int, count: int) -> str:
    """For example "train-00000-of-00008.tfrecord"."""
    return f"{split}-{number:05d}-of-{count:05d}.tfrecord"


def record_places(path: Path) -> Iterator[tuple[int, int]]:
    """Offset and length in bytes of the data of each record of a TFRecord file.

    Raises:
      UserError: If the file ends in the middle of a record.
    """
    size, offset = path.stat().st_size, 0
    with path.open("rb") as file:
        while offset < size:
            file.seek(offset)
            header = file.read(_LENGTH.size)
            length = _LENGTH.unpack(header)[0] if len(header) == _LENGTH.size else size
            if offset + length + 16 > size:
                raise UserError(f"{path} is cut short; delete it and write the shards again.")
            yield offset + 12, length
            offset += length + 16


def _example(sequences: SequenceDataset, number: int) -> bytes:
    """The record of one sequence."""
    count = int(sequences.frame_counts[number])
    encoded: list[bytes] = []
    for start in range(0, count, BLOCK):
        frame = tf.range(start, min(start + BLOCK, count))
        pixels = sequences.frames(tf.fill(tf.shape(frame), tf.constant(number, tf.int32)), frame)
        encoded += tf.io.encode_png(pixels).numpy().tolist()
    rows = sequences.rows(np.array(number), np.arange(count))
    features = {
        "id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[os.fsencode(sequences.ids[number])])),
        "number": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
        "frames": tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded)),
    }
    labels = {f"static/{name}": values[number : number + 1] for name, values in sequences.static_labels.items()}
    labels |= {f"frame/{name}": values[rows] for name, values in sequences.frame_labels.items()}
    for name, values in labels.items():
        features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values.tolist()))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _content(sequences: SequenceDataset) -> str:
    """Fingerprint of a dataset, its labels, and the first and the last frame of each sequence."""
    digest = hashlib.blake2b(sequences.fingerprint().encode(), digest_size=16)
    for labels in (sequences.static_labels, sequences.frame_labels):
        for name, values in sorted(labels.items()):
            digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    digest.update(json.dumps(sequences.label_names, sort_keys=True).encode())
    for start in range(0, sequences.num_sequences, BLOCK):
        number = np.arange(start, min(start + BLOCK, sequences.num_sequences), dtype=np.int32)
        for frame in (np.zeros_like(number), sequences.frame_counts[number] - 1):
            digest.update(sequences.frames(tf.constant(number), tf.constant(frame)).numpy().tobytes())
    return digest.hexdigest()


def _is_complete(folder: Path, content: str, shard_mb: float) -> bool:
    """Whether all shards of this dataset are in the folder already."""
    if not (folder / DESCRIPTION).is_file():
        return False
    description = _read_description(folder)
    same = (description["content"], description["shard_mb"]) == (content, shard_mb)
    return same and "places" in description and all((folder / name).is_file() for name in description["shards"])


def _read_description(folder: Path) -> dict[str, Any]:
    """`dataset.json` of a folder of shards, complete or not.

    Raises:
      UserError: If it is missing, damaged or of another kind.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text())
        version = description["format"]
    except FileNotFoundError as error:
        raise UserError(f"{folder} is not a folder of shards (there is no {DESCRIPTION} in it).") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and write the shards again.") from error
    if version != FORMAT:
        raise UserError(f"{path} is of format {version}, not {FORMAT}; write the shards again.")
    return description


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(text)
    partial.rename(path)


def write_shards(
    sequences: SequenceDataset, folder: Path, shard_mb: float = SHARD_MB, workers: int | None = None
) -> int:
    """Writes a dataset as shards; goes on where an earlier call for the same dataset and folder was interrupted.

    Args:
      sequences: Any dataset whose frames have 1 or 3 channels.
      folder: Made if it does not exist.
      shard_mb: Megabytes of uncompressed frames in a shard, about; a sequence is never split.
      workers: Threads; None: one a core.

    Returns:
      The number of shards that were written now.

    Raises:
      UserError: If the folder holds something else or cannot be written.
    """
    if sequences.frame_shape[-1] not in (1, 3):
        raise UserError(f"Shards hold frames of 1 or 3 channels, not {sequences.frame_shape[-1]}.")
    if not shard_mb > 0:
        raise UserError(f"shard_mb must be above 0, got {shard_mb}.")
    if _is_complete(folder, content := _content(sequences), shard_mb):
        return 0
    frame_bytes = math.prod(sequences.frame_shape)
    shards: dict[str, list[int]] = {}
    for split, numbers in sequences.splits.items():
        count = math.ceil(int(sequences.frame_counts[numbers].sum()) * frame_bytes / (shard_mb * MEGABYTE))
        count = min(max(1, count), len(numbers))
        order = np.random.RandomState(SHUFFLE_SEED).permutation(numbers)
        shards |= {shard_name(split, i, count): order[i::count].tolist() for i in range(count)}
    description = {
        "format": FORMAT,
        "content": content,
        "shard_mb": shard_mb,
        "name": sequences.name,
        "licence": sequences.licence,
        "frame_shape": list(sequences.frame_shape),
        "ids": sequences.ids,
        "frame_counts": sequences.frame_counts.tolist(),
        "splits": {split: numbers.tolist() for split, numbers in sequences.splits.items()},
        "label_names": {name: list(words) for name, words in sequences.label_names.items()},
        "shards": shards,
    }

    def write(name: str) -> None:
        partial = folder / f".{name}.{os.getpid()}.part"
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for number in shards[name]:
                writer.write(_example(sequences, number))
                bar.update()
        partial.rename(folder / name)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / DESCRIPTION).exists():
            before = _read_description(folder)
            if (before["content"], before["shard_mb"]) != (content, shard_mb):
                raise UserError(f"{folder} holds shards of another dataset, other frames or size; give another folder.")
        elif any(folder.iterdir()):
            raise UserError(f"{folder} is not empty and holds no shards; give another folder.")
        _write(folder / DESCRIPTION, json.dumps(description))
        labels = {f"static/{name}": values for name, values in sequences.static_labels.items()}
        labels |= {f"frame/{name}": values for name, values in sequences.frame_labels.items()}
        np.savez_compressed(folder / LABELS, **labels)
        missing = [name for name in shards if not (folder / name).exists()]
        with (
            tqdm(total=sum(len(shards[name]) for name in missing), desc="writing shards", unit="sequence") as bar,
            ThreadPoolExecutor(workers or os.cpu_count()) as pool,
        ):
            tasks = [pool.submit(write, name) for name in missing]
            try:
                for task in as_completed(tasks):
                    task.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        places = {name: list(record_places(folder / name)) for name in shards}  # last: makes the set complete
        for name, numbers in shards.items():
            if len(places[name]) != len(numbers):
                raise UserError(f"{folder / name} is cut short; delete it and write the shards again.")
        _write(folder / DESCRIPTION, json.dumps({**description, "places": places}))
    except (OSError, tf.errors.OpError) as error:  # TensorFlow writes the records
        raise UserError(f"Shards cannot be written to {folder}: {error}.") from error
    return len(missing)


@configurable()
class TFRecords(SequenceDataset):
    """A dataset in shards.

    `batches` reads them as a stream: every sequence of a split is read once in each pass, in an order of its own, and
    gives `draws_per_record` draws of N frames. Workers share the files. `frames` reads single records and cannot be
    traced: it is for figures, not for training.
    """

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
        self._folder = Path(folder).expanduser()
        self._memory, self._draws = memory_mb * MEGABYTE, draws_per_record
        description = _read_description(self._folder)
        if "places" not in description:
            raise UserError(f"The shards in {folder} are not complete; the command that writes them goes on.")
        self._shards: dict[str, list[int]] = description["shards"]
        places: dict[str, list[list[int]]] = description["places"]
        self._places = {
            number: (name, *place)
            for name, numbers in self._shards.items()
            for number, place in zip(numbers, places[name], strict=True)
        }
        for name in self._shards:
            path = self._folder / name
            offset, length = places[name][-1]
            if not path.is_file() or path.stat().st_size != offset + length + 4:
                state = "has another size than when it was written" if path.is_file() else "is missing"
                raise UserError(f"The shard {path} {state}; write the shards again.")
        try:
            with np.load(self._folder / LABELS) as labels:
                static, frame = (
                    {name.partition("/")[2]: labels[name] for name in labels.files if name.startswith(kind)}
                    for kind in ("static/", "frame/")
                )
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{self._folder / LABELS} cannot be read ({error}); write the shards again.") from error
        super().__init__(
            description["name"],
            frame_shape=description["frame_shape"],
            frame_counts=description["frame_counts"],
            splits=description["splits"],
            static_labels=static,
            frame_labels=frame,
            label_names=description["label_names"],
            ids=description["ids"],
        )
        self.licence = description.get("licence")
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
            with (self._folder / name).open("rb") as file:
                file.seek(offset)
                record = file.read(length)
            try:
                encoded = tf.train.Example.FromString(record).features.feature["frames"].bytes_list.value
                for row in np.flatnonzero(sequence.ravel() == number):
                    frames[row] = tf.io.decode_png(encoded[frame.ravel()[row]])
            except (tf.errors.OpError, DecodeError, IndexError) as error:
                raise UserError(f"The shard {self._folder / name} is damaged; write the shards again.") from error
        return tf.constant(frames.reshape(*sequence.shape, *self.frame_shape))

    def batches(
        self,
        split: str,
        batch_size: int,
        num_frames: int,
        seed: int,
        start_step: int = 0,
        worker: int = 0,
        num_workers: int = 1,
    ) -> tf.data.Dataset:
        """See `SequenceDataset.batches`; but each worker reads files of its own, so its batches are its own, too.

        To start at a later step, records are read up to there, at most one pass through the split.

        Raises:
          UserError: If there are fewer files than workers.
        """
        files = [name for name in self._shards if name.startswith(f"{split}-")][worker::num_workers]
        if not files:
            raise UserError(f"{self._folder} has fewer '{split}' shards than there are workers; write smaller shards.")
        numbers = [number for name in files for number in self._shards[name]]
        draws_a_pass = len(numbers) * self._draws
        drawn_bytes = num_frames * sum(self._places[number][2] for number in numbers)
        drawn_bytes //= int(self.frame_counts[numbers].sum())
        # Half of the memory is for the block that is used, the one that is ready, and the one that is read.
        block = min(MAX_BLOCK, max(1, self._memory // (2 * 3 * drawn_bytes)))
        paths = tf.constant([os.fsencode(self._folder / name) for name in files])
        key = tf.random.fold_in(stream_seed(seed, split), worker)

        def draws(record: tf.Tensor, key: tf.Tensor) -> tf.data.Dataset:
            features = {"number": tf.io.FixedLenFeature([], tf.int64), "frames": tf.io.VarLenFeature(tf.string)}
            example = tf.io.parse_single_example(record, features)
            encoded = example["frames"].values
            seeds = tf.random.split(tf.random.fold_in(key, example["number"]), self._draws)
            counts = tf.fill([1], tf.size(encoded))
            frame = tf.concat([draw_frames(one, counts, num_frames) for one in tf.unstack(seeds)], axis=0)
            return tf.data.Dataset.from_tensor_slices(tf.gather(encoded, frame))

        def shuffled(elements: tf.Tensor, seed: tf.Tensor) -> tf.data.Dataset:
            return tf.data.Dataset.from_tensor_slices(tf.random.experimental.stateless_shuffle(elements, seed))

        def one_pass(number: tf.Tensor) -> tf.data.Dataset:
            key_of_pass = tf.random.fold_in(key, number)
            order, block_seed, frame_seed = tf.unstack(tf.random.split(key_of_pass, 3))
            records = shuffled(paths, order).interleave(
                tf.data.TFRecordDataset, cycle_length=self._cycle, num_parallel_calls=self._cycle, deterministic=True
            )
            drawn = records.flat_map(lambda record: draws(record, frame_seed))
            # Shuffled a block at a time, since `Dataset.shuffle` cannot be a function of a seed alone.
            blocks = drawn.batch(block).enumerate().prefetch(1)
            return blocks.flat_map(lambda number, encoded: shuffled(encoded, tf.random.fold_in(block_seed, number)))

        def decode(encoded: tf.Tensor) -> tf.Tensor:
            channels = self.frame_shape[-1]
            frames = tf.stack([tf.io.decode_png(encoded[i], channels) for i in range(num_frames)])
            return tf.ensure_shape(frames, (num_frames, *self.frame_shape))

        share = share_of_batch(batch_size, num_workers)
        first_pass, done = divmod(start_step * share, draws_a_pass)
        stream = tf.data.Dataset.counter(np.int64(first_pass)).flat_map(one_pass).skip(done)
        stream = stream.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        batches = stream.batch(share, drop_remainder=True)
        # Keras warns about the end of streams whose length it is not told, also where that end was asked for.
        endless = tf.data.experimental.assert_cardinality(tf.data.experimental.INFINITE_CARDINALITY)
        return batches.apply(endless).prefetch(2)
