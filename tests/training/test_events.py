import os

import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ddr_tf.training.events import forget_events_after


def write(folder, steps):
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step in steps:
            tf.summary.scalar("elbo", float(step), step=step)
    writer.close()


def steps(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}, purge_orphaned_data=False)
    events.Reload()
    return [event.step for event in events.Tensors("elbo")]


def test_a_resumed_run_has_one_curve(tmp_path):
    write(tmp_path, range(8))
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b"cut short")  # by a kill
    forget_events_after(tmp_path, 4)
    write(tmp_path, range(5, 8))
    assert sorted(steps(tmp_path)) == list(range(8))


def test_what_is_whole_and_early_stays_as_it_is(tmp_path):
    write(tmp_path, range(3))
    (path,) = tmp_path.iterdir()
    before = path.read_bytes(), path.stat().st_mtime_ns
    forget_events_after(tmp_path, 2)
    forget_events_after(tmp_path / "nothing", 2)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_what_is_no_event_file_is_passed_over(tmp_path):
    write(tmp_path, range(3))
    os.mkfifo(tmp_path / "events.out.tfevents.1")
    (tmp_path / "events.out.tfevents.2").mkdir()
    with tf.io.TFRecordWriter(str(tmp_path / "events.out.tfevents.3")) as file:
        file.write(b"\xff no event")
    forget_events_after(tmp_path, 2)
    assert not list(tf.data.TFRecordDataset(str(tmp_path / "events.out.tfevents.3")))
