"""TensorBoard's event files of a run that resumes."""

from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event

from ddr_tf import files


def forget_events_after(folder: Path, step: int) -> None:
    """Removes from event files what a resumed run writes again, so that each curve is one, and what a kill cut short.

    Args:
      folder: Of event files; need not exist.
      step: Where the run resumes; records of later steps are removed.
    """
    for path in sorted(folder.glob("events.out.tfevents.*")):
        if not path.is_file():  # TensorFlow would wait for what a FIFO never says
            continue
        kept, whole = _records_until(path, step)
        if not whole:
            with files.replaced(path, sync=False) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
                for record in kept:
                    writer.write(record)


def _records_until(path: Path, step: int) -> tuple[list[bytes], bool]:
    """The records of an event file up to a step, and whether that is all of it."""
    kept, whole = [], True
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            if Event.FromString(record).step <= step:
                kept.append(record)
            else:
                whole = False
    except (tf.errors.DataLossError, DecodeError):  # cut short, or something else
        whole = False
    return kept, whole
