"""What all tests share: two logical CPUs, a dataset of random frames, tiny settings."""

import asyncio
import concurrent.futures
import contextlib
import gzip
import os
import socket
from pathlib import Path

import ddr_tf  # noqa: F401  # isort: skip  # before TensorFlow, for which it sets environment variables
import gin
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ddr_tf.data.arrays import ArrayDataset
from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset
from ddr_tf.data.sprites import SHEETS

REAL_DATA = Path(os.environ.get("DDR_TF_TEST_DATA", Path(__file__).parents[1] / "data"))
GIN = Path(__file__).parents[1] / "gin"

# Before TensorFlow looks at its devices: two replicas on one CPU.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
tf.config.list_logical_devices()  # now; so no test changes for others how many threads an operation has


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Has graphs run as they are: to optimize them takes longer than to run a tiny model a few times.

    Those that are served are optimized, and those of commands that run in a process of their own. A hook, since shared
    fixtures are made before any fixture of a single test.
    """
    served = "serving" in item.path.parts or item.path.stem in ("test_serve", "test_export", "test_docs")
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not served})


@pytest.fixture(autouse=True)
def own_collectives():
    """Strategies of one process that reduce tensors of other shapes must not share TensorFlow's keys for that."""
    base = tf.distribute.MirroredStrategy._collective_key_base
    tf.distribute.MirroredStrategy._collective_key_base = base + 1_000_000


class RandomDataset(SequenceDataset):
    """Frames of noise in memory: sequence s has `frame_counts[s]` of them. The first pixel tells which it is."""

    def __init__(self, frame_counts=(9, 3, 8, 12, 8, 8), frame_shape=(16, 16, 1), held_out=2):
        numbers = np.arange(len(frame_counts))
        splits = {TRAIN: numbers[:-held_out], HELD_OUT: numbers[-held_out:]}
        super().__init__("random", frame_shape, np.array(frame_counts), splits)
        bank = np.random.RandomState(0).randint(0, 256, (len(frame_counts), max(frame_counts), *frame_shape))
        bank[:, :, 0, 0, 0] = numbers[:, None] * 16 + np.arange(max(frame_counts))
        self.bank = bank.astype(np.uint8)

    def frames(self, sequence, frame):
        return tf.gather_nd(tf.constant(self.bank), tf.stack([sequence, frame], axis=-1))


@pytest.fixture
def random_sequences():
    return RandomDataset()


@pytest.fixture(scope="session")
def real_data():
    """The data directory with real data, where there is one."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"{REAL_DATA} is absent")
    return REAL_DATA


def draw_sheet(path, seed):
    """A palette image with transparency, as the real sheets are."""
    image = Image.fromarray(np.random.RandomState(seed).randint(0, 8, (1344, 832)).astype(np.uint8))
    image = image.convert("P")
    image.putpalette(np.random.RandomState(seed + 100).randint(0, 256, 24).astype(np.uint8).tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, transparency=0)


@pytest.fixture(scope="session")
def drawn_sheets(tmp_path_factory):
    """A data directory whose lpc/ holds 24 sheets of noise."""
    data_dir = tmp_path_factory.mktemp("data")
    for seed, (path, _) in enumerate(sheet for sheets in SHEETS.values() for sheet in sheets):
        draw_sheet(data_dir / "lpc" / path, seed)
    return data_dir


@pytest.fixture(scope="session", autouse=True)
def cache_of_frames(tmp_path_factory):
    """Decoded frames go to a folder of the tests' own, not to the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDR_TF_CACHE", str(folder))
        yield folder


def draw_image(path, seed=0, size=(20, 20), **options):
    """An image file of smooth noise in colour; its format follows the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(np.random.RandomState(seed).randint(0, 256, (4, 4, 3)).astype(np.uint8))
    coarse.resize(size).save(path, **options)
    return path


def write_idx(path, array):
    """An idx file of bytes, gzipped if its name says so."""
    content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def draw_mnist(folder, counts=(("train", 30), ("t10k", 12))):
    """MNIST's four files, of random digits."""
    random = np.random.RandomState(0)
    for part, count in counts:
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", random.randint(0, 256, (count, 28, 28)).astype(np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))


@pytest.fixture(scope="session")
def drawn_data(drawn_sheets):
    """A data directory with a little of everything that the shipped gin files name."""
    draw_mnist(drawn_sheets / "mnist")
    published = np.random.RandomState(0).randint(0, 256, (20, 12, 64, 64)).astype(np.uint8)
    (drawn_sheets / "moving_mnist").mkdir()
    np.save(drawn_sheets / "moving_mnist/mnist_test_seq.npy", published)
    for folder in ("aff_wild", "faces"):
        for clip in range(3):
            for frame in range(20):
                draw_image(
                    drawn_sheets / f"{folder}/cropped_aligned/clip_{clip}/{frame + 1:05d}.jpg", 100 * clip + frame
                )
    return drawn_sheets


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory):
    """A finished run on puppets of 16 x 16, F = 4; to be read only."""
    from ddr_tf import train
    from tiny import SIZE_BINDINGS

    folder = tmp_path_factory.mktemp("runs") / "quickstart"
    settings = [
        *("train.steps=2", "train.checkpoint_every=2", "train.log_every=2", "train.held_out_batches=1"),
        *("train.batch_size=2", "train.num_frames=2", "Puppets.size=16", "Puppets.num_poses=16"),
        *SIZE_BINDINGS,
    ]
    flags = [part for binding in settings for part in ("--gin_param", binding)]
    assert train.main(["--gin_file", str(GIN / "quickstart.gin"), *flags, "--run_dir", str(folder)]) == 0
    gin.clear_config()
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished run of the settings that the tests of training share: (model, folder); to be read only."""
    from ddr_tf.training.loop import train
    from tiny import SETTINGS

    run_dir = tmp_path_factory.mktemp("run") / "run"
    return train(str(run_dir), **SETTINGS), run_dir


@pytest.fixture(autouse=True)
def nothing_bound():
    """What a test binds is bound for it alone, and not for shared fixtures that are made before the next test."""
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture
def without_pictures(monkeypatch):
    """Training draws black contact sheets, for tests of something else: real ones are a third of a short run."""
    from ddr_tf.pictures import contact_sheets

    names = ("reconstructions", "reconstructions_train", "swaps", "samples", "latent_plane")
    sheets = dict.fromkeys(names, np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setattr(contact_sheets, "contact_sheets", lambda *_: sheets)


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory):
    """saved_models/puppets with a version 3: an untrained model of 16 x 16 x 3, F = 4; to be read only."""
    from ddr_tf.serving.exporting import write_saved_model
    from tiny import TINY

    folder = tmp_path_factory.mktemp("saved_models") / "puppets"
    keras.utils.set_random_seed(0)
    write_saved_model(TINY((16, 16, 3)), folder / "3")
    return folder


@pytest.fixture(scope="session")
def servable(saved_model):
    """That model, loaded as `ddr_tf.serve` does."""
    from ddr_tf.serving.servable import Servable

    return Servable(saved_model)


@contextlib.contextmanager
def running(app):
    """An application of aiohttp, or our server as it runs, on a free port of this machine, in a thread: its URL."""
    from ddr_tf.serving import server

    loop = asyncio.new_event_loop()
    stopped = asyncio.Event()
    started = concurrent.futures.Future()

    async def run():
        listener = socket.create_server(("127.0.0.1", 0))
        async with (server.serving if server.CONNECTIONS in app else plainly_serving)(app, listener, 1):
            started.set_result("http://{}:{}".format(*listener.getsockname()))
            await stopped.wait()

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        running = thread.submit(loop.run_until_complete, run())
        try:
            yield started.result(30)
        finally:
            loop.call_soon_threadsafe(stopped.set)
            running.result(30)
            loop.close()


@contextlib.asynccontextmanager
async def plainly_serving(app, listener, drain_seconds):
    from aiohttp import web

    runner = web.AppRunner(app, shutdown_timeout=drain_seconds)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    yield
    await runner.cleanup()


@pytest.fixture(scope="session")
def server_url(servable):
    """Where that model is served."""
    from ddr_tf.serving.server import application

    with running(application(servable)) as url:
        yield url


@pytest.fixture(name="folder")
def folder_of_frames(tmp_path):
    """Three sequences: nested, flat, and with a name in another script."""
    root = tmp_path / "my frames"
    for i, (sequence, count) in enumerate({"anna": 12, "b/deep": 3, "ж 虫": 4}.items()):
        for frame in range(count):
            draw_image(root / sequence / f"frame {frame + 1}.png", 100 * i + frame)
    return root


def frame_folders(root, **settings):
    """`FrameFolders` with frames of 16 x 16."""
    from ddr_tf.data.frame_folders import FrameFolders

    return FrameFolders(str(root), **{"size": 16, "held_out_fraction": 0.4} | settings)


def all_frames(sequences):
    """Every frame of every sequence, uint8 `[sum of frame_counts, H, W, C]`."""
    numbers = np.repeat(np.arange(sequences.num_sequences, dtype=np.int32), sequences.frame_counts)
    frame = np.concatenate([np.arange(count, dtype=np.int32) for count in sequences.frame_counts])
    return sequences.frames(tf.constant(numbers), tf.constant(frame)).numpy()


class Labelled(ArrayDataset):
    """30 sequences in colour; the first two pixels of a frame tell its sequence and its number."""

    def __init__(self):
        counts = np.arange(30) % 7 + 4
        numbers = np.repeat(np.arange(30), counts)
        frame = np.concatenate([np.arange(count) for count in counts])
        bank = np.random.RandomState(0).randint(0, 256, (counts.sum(), 16, 16, 3)).astype(np.uint8)
        bank[:, 0, 0, 0], bank[:, 0, 1, 0] = numbers, frame
        super().__init__(
            bank,
            name="labelled",
            frame_counts=counts,
            splits={"train": np.arange(24), "held_out": np.arange(24, 30)},
            static_labels={"age": np.arange(30, dtype=np.float32), "town": np.arange(30, dtype=np.int32) % 3 - 1},
            frame_labels={"smile": np.where(frame == 1, np.nan, frame).astype(np.float32)},
            label_names={"town": ["Bonn", "Ulm"]},
            ids=[f"ß/{number}" for number in range(30)],
        )


@pytest.fixture(scope="session")
def source():
    """That dataset."""
    return Labelled()


@pytest.fixture(scope="session")
def shards(source, tmp_path_factory):
    """It as shards; to be read only."""
    from ddr_tf.data.shards import write_shards

    folder = tmp_path_factory.mktemp("shards")
    assert write_shards(source, folder, shard_mb=0.02) > 6
    return folder


def damaged(shards, tmp_path, change):
    """A copy of a folder of shards, changed."""
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    change(tmp_path)
    return str(tmp_path)
