"""TFRecord shards, for what does not fit in memory: what a folder of them holds, and how it is written.

A folder of shards holds

    dataset.json                         what `SequenceDataset` knows, and the place of every record
    labels.npz                           labels, "static/<name>" and "frame/<name>", and perhaps "pose/pose"
    train-00000-of-00008.tfrecord, ...   and the same for held_out

Each record is a `tf.train.Example` of one whole sequence:

    id                 bytes [1]   its name in the dataset
    number             int64 [1]   its number in the dataset
    frames             bytes [T]   PNG, lossless
    static/<name>      float [1]   a label of the sequence
    frame/<name>       float [T]   a label of its frames

PNG keeps every bit, so a model sees the same frames from shards as from what they were written from.
"""

import contextlib
import hashlib
import json
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.files import (
    Lock,
    open_regular,
    put_in_place,
    read_json,
    remove_abandoned,
    replaced,
    temporary_folder,
    write_text,
)

FORMAT = 1
MEGABYTE = 1_000_000  # bytes
DESCRIPTION, LABELS, LOCK = "dataset.json", "labels.npz", ".lock"
SHARD_MB = 64  # about, of uncompressed frames; small enough to spread over workers
BLOCK = 1024  # frames encoded at once
SHUFFLE_SEED = 423  # seed of the order in which sequences are put into shards
MAX_LABEL_BYTES = 16  # bytes of a value in labels.npz before compression
_LENGTH = struct.Struct("<Q")  # a record: its length, 4 bytes of checksum, its data, 4 bytes of checksum


@dataclass(frozen=True)
class Description:
    """`dataset.json` of a folder of shards.

    Attributes:
      content: A fingerprint of the dataset that the shards were written from.
      shard_mb: Megabytes of uncompressed frames in a shard, about.
      dataset: The arguments of `SequenceDataset` but for the labels.
      licence: Of the data; None where it is not known.
      shards: Name of the file -> numbers of the sequences in it.
      places: Name of the file -> offset and length of each record; None: the shards are not complete.
    """

    content: str
    shard_mb: float
    dataset: dict[str, Any]
    licence: str | None
    shards: dict[str, list[int]]
    places: dict[str, list[tuple[int, int]]] | None = None

    def to_json(self) -> dict[str, Any]:
        """An object for JSON."""
        fields = {"format": FORMAT, "content": self.content, "shard_mb": self.shard_mb, **self.dataset}
        fields |= {"licence": self.licence, "shards": self.shards}
        return fields if self.places is None else fields | {"places": self.places}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Description":
        """The reverse of `to_json`.

        Raises:
          KeyError, TypeError, ValueError: If it is none.
        """
        names = ("name", "frame_shape", "ids", "frame_counts", "splits", "label_names")
        dataset = {name: fields[name] for name in names}
        dataset["frame_shape"] = _whole_numbers(dataset["frame_shape"], 3)
        dataset["frame_counts"] = _whole_numbers(dataset["frame_counts"], len(dataset["ids"]))
        if 0 in dataset["frame_counts"]:
            raise ValueError("a sequence has no frames")
        if not all(isinstance(text, str) for text in (dataset["name"], *dataset["ids"])):
            raise ValueError("names must be text")
        shards = {str(name): _whole_numbers(numbers) for name, numbers in fields["shards"].items()}
        held = sorted(number for numbers in shards.values() for number in numbers)
        if held != sorted(number for numbers in dataset["splits"].values() for number in _whole_numbers(numbers)):
            raise ValueError("the shards do not hold each sequence of the splits once")
        if any(os.path.basename(name) != name for name in shards):
            raise ValueError("a shard lies in another folder")
        places = fields.get("places")
        if places is not None:
            places = {name: [tuple(_whole_numbers(place, 2, 1 << 62)) for place in places[name]] for name in shards}
            if any(len(places[name]) != len(shards[name]) or not shards[name] for name in shards):
                raise ValueError("places are missing")
        return cls(str(fields["content"]), fields["shard_mb"], dataset, fields.get("licence"), shards, places)


def _whole_numbers(values: list[Any], count: int | None = None, end: int = 1 << 31) -> list[int]:
    """The same list, if it is of numbers from 0 to below `end`, and of so many; else raises ValueError."""
    if not all(type(value) is int and 0 <= value < end for value in values) or count not in (None, len(values)):
        raise ValueError("a list does not hold the whole numbers that it should")
    return list(values)


def read_description(folder: Path) -> Description:
    """`dataset.json` of a folder of shards, complete or not.

    Raises:
      UserError: If it is missing, damaged or of another kind.
    """
    path = folder / DESCRIPTION
    try:
        fields = read_json(path)
        if fields["format"] != FORMAT:
            raise UserError(f"{path} is of format {fields['format']}, not {FORMAT}; write the shards again.")
        return Description.from_json(fields)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{folder} is not a folder of shards (there is no {DESCRIPTION} in it).") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path} cannot be read ({reason}); delete it and write the shards again.") from error


def read_labels(folder: Path, counts: dict[str, int]) -> dict[str, dict[str, np.ndarray]]:
    """The labels of a folder of shards.

    Args:
      folder: The folder.
      counts: "static", "frame" and "pose" -> the number of values of each such label.

    Returns:
      The same kinds -> name of a label -> its values; of "pose" the only one is "pose", `SequenceDataset.pose_numbers`.

    Raises:
      UserError: If the file is missing, damaged, or holds something else.
    """
    path = folder / LABELS
    labels: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in counts}
    try:
        with open_regular(path) as file, np.load(file) as arrays:
            for entry in arrays.zip.infolist():
                kind, _, name = entry.filename.removesuffix(".npy").partition("/")
                if entry.file_size > counts[kind] * MAX_LABEL_BYTES + 1000:
                    raise ValueError(f"{entry.filename} is larger than {counts[kind]} values")
                values = arrays[entry.filename.removesuffix(".npy")]
                if values.shape != (counts[kind],) or values.dtype.kind not in "biuf":
                    raise ValueError(
                        f"{entry.filename} is {values.dtype} {list(values.shape)}, not {counts[kind]} numbers"
                    )
                labels[kind][name] = values
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read ({error}); write the shards again.") from error
    except Exception as error:  # zlib's and NumPy's errors about damaged content
        raise UserError(f"{path} cannot be read ({type(error).__name__}); write the shards again.") from error
    return labels


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


def write_shards(
    sequences: SequenceDataset, folder: Path, shard_mb: float = SHARD_MB, workers: int | None = None
) -> int:
    """Writes a dataset as shards; goes on where an earlier call for the same dataset and folder was interrupted.

    Args:
      sequences: Any dataset.
      folder: Made if it does not exist.
      shard_mb: Megabytes of uncompressed frames in a shard, about; a sequence is never split.
      workers: Threads; None: one a core.

    Returns:
      The number of shards that were written now.

    Raises:
      UserError: If the folder holds something else, cannot be written, or is being written by another process.
    """
    if not shard_mb > 0:
        raise UserError(f"shard_mb must be above 0, got {shard_mb}.")
    description = _describe(sequences, shard_mb)
    if _is_complete(folder, description):
        return 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder):
            _claim(folder, description, sequences)
            missing = [name for name in description.shards if not (folder / name).exists()]
            _write_files(sequences, folder, {name: description.shards[name] for name in missing}, workers)
            _complete(folder, description)
    except (OSError, tf.errors.OpError) as error:  # TensorFlow writes the records
        raise UserError(f"Shards cannot be written to {folder}: {error}.") from error
    return len(missing)


def _describe(sequences: SequenceDataset, shard_mb: float) -> Description:
    """What the folder of a dataset's shards will say, but for the places of records."""
    dataset = {
        "name": sequences.name,
        "frame_shape": list(sequences.frame_shape),
        "ids": sequences.ids,
        "frame_counts": sequences.frame_counts.tolist(),
        "splits": {split: numbers.tolist() for split, numbers in sequences.splits.items()},
        "label_names": {name: list(words) for name, words in sequences.label_names.items()},
    }
    frame_bytes = math.prod(sequences.frame_shape)
    shards: dict[str, list[int]] = {}
    for split, numbers in sequences.splits.items():
        count = math.ceil(int(sequences.frame_counts[numbers].sum()) * frame_bytes / (shard_mb * MEGABYTE))
        count = min(max(1, count), len(numbers))
        order = np.random.RandomState(SHUFFLE_SEED).permutation(numbers)
        shards |= {shard_name(split, i, count): order[i::count].tolist() for i in range(count)}
    return Description(_content(sequences), shard_mb, dataset, sequences.licence, shards)


def shard_name(split: str, number: int, count: int) -> str:
    """For example "train-00000-of-00008.tfrecord"."""
    return f"{split}-{number:05d}-of-{count:05d}.tfrecord"


def _content(sequences: SequenceDataset) -> str:
    """Fingerprint of a dataset, its labels, and the first and the last frame of each sequence."""
    digest = hashlib.blake2b(sequences.fingerprint().encode(), digest_size=16)
    for labels in (sequences.static_labels, sequences.frame_labels):
        for name, values in sorted(labels.items()):
            digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    digest.update(b"" if sequences.pose_numbers is None else sequences.pose_numbers.tobytes())
    digest.update(json.dumps(sequences.label_names, sort_keys=True).encode())
    for start in range(0, sequences.num_sequences, BLOCK):
        number = np.arange(start, min(start + BLOCK, sequences.num_sequences), dtype=np.int32)
        for frame in (np.zeros_like(number), sequences.frame_counts[number] - 1):
            digest.update(sequences.frames(tf.constant(number), tf.constant(frame)).numpy().tobytes())
    return digest.hexdigest()


def _is_complete(folder: Path, description: Description) -> bool:
    """Whether all shards of this dataset are in the folder already."""
    if not (folder / DESCRIPTION).is_file():
        return False
    before = read_description(folder)
    return (
        _are_alike(before, description)
        and bool(before.places)
        and all((folder / name).is_file() for name in before.shards)
    )


def _are_alike(one: Description, other: Description) -> bool:
    return (one.content, one.shard_mb) == (other.content, other.shard_mb)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """A block in which no other process writes shards to a folder; raises UserError if one does."""
    path = folder / LOCK
    lock = Lock(path)
    if not lock.acquire():
        raise UserError(f"Another process writes shards to {folder}; wait for it, or give another folder.")
    try:
        remove_abandoned(folder)
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def _claim(folder: Path, description: Description, sequences: SequenceDataset) -> None:
    """Writes all but the shards; raises UserError if the folder holds something else."""
    if (folder / DESCRIPTION).exists():
        if not _are_alike(read_description(folder), description):
            raise UserError(f"{folder} holds shards of another dataset, other frames or size; give another folder.")
    elif any(not path.name.startswith(".") for path in folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no shards; give another folder.")
    write_text(folder / DESCRIPTION, json.dumps(description.to_json()))
    labels = {f"static/{name}": values for name, values in sequences.static_labels.items()}
    labels |= {f"frame/{name}": values for name, values in sequences.frame_labels.items()}
    labels |= {} if sequences.pose_numbers is None else {"pose/pose": sequences.pose_numbers}
    with replaced(folder / LABELS) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **labels)


def _write_files(sequences: SequenceDataset, folder: Path, shards: dict[str, list[int]], workers: int | None) -> None:
    """Writes shards, several at a time."""
    with (
        temporary_folder(folder) as temporary,
        tqdm(total=sum(map(len, shards.values())), desc="writing shards", unit="sequence") as bar,
        ThreadPoolExecutor(workers or os.cpu_count()) as pool,
    ):

        def write(name: str) -> None:
            partial = temporary / name
            with tf.io.TFRecordWriter(os.fsencode(partial)) as writer:
                for number in shards[name]:
                    writer.write(_example(sequences, number))
                    bar.update()
            put_in_place(partial, folder / name)

        tasks = [pool.submit(write, name) for name in shards]
        try:
            for task in as_completed(tasks):
                task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


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


def _complete(folder: Path, description: Description) -> None:
    """Adds the places of all records to the description; with them, the set counts as complete."""
    places = {name: list(record_places(folder / name)) for name in description.shards}
    for name, numbers in description.shards.items():
        if len(places[name]) != len(numbers):
            raise UserError(f"{folder / name} is cut short; delete it and write the shards again.")
    write_text(folder / DESCRIPTION, json.dumps(description.to_json() | {"places": places}))
