"""Reads mutated files with some loaders, and prints as JSON what came of each; arguments: SEED LOADER=COUNT ...

A process of its own, so that a crash, or memory that is never given back, is seen.
"""

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"  # before tqdm is imported; not for the tests that only name what is here

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

import conftest  # noqa: F401, which must be before anything that makes TensorFlow look at its devices
from ddr_tf.errors import UserError

MAX_SECONDS = 20  # for one file
INTERESTING = (b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\x80", b"\xff\xfe", b"[" * 50, b"9" * 20, b"-1", b"nan")


def mutate(content: bytes, random: np.random.RandomState) -> bytes:
    """One to four changes: bytes flipped, set, cut out, doubled or put in, numbers made extreme, the end cut off."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 5)):
        if not changed:
            break
        start = random.randint(len(changed)) if random.rand() < 0.5 else random.randint(min(len(changed), 300))
        end = min(len(changed), start + 1 + random.randint(1, 40))
        kind = random.randint(6)
        if kind == 0:
            changed[start] ^= 1 << random.randint(8)
        elif kind == 1:
            changed[start:end] = random.bytes(end - start)
        elif kind == 2:
            del changed[start:end]
        elif kind == 3:
            changed[start:start] = changed[start:end] * random.randint(1, 4)
        elif kind == 4:
            value = INTERESTING[random.randint(len(INTERESTING))]
            changed[start : start + len(value)] = value
        elif random.rand() < 0.5:
            del changed[start:]
    return bytes(changed)


def image_files() -> dict[str, bytes]:
    """One or more images of each kind that Pillow writes, single and several pictures, 1 to 32 bits."""
    random = np.random.RandomState(0)
    noise = random.randint(0, 256, (24, 40, 3)).astype(np.uint8)
    colour, other = Image.fromarray(noise), Image.fromarray(255 - noise)
    deep, real = (
        Image.fromarray(noise[..., 0].astype(np.uint16) * 257),
        Image.fromarray(noise[..., 0].astype(np.float32)),
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    series = {"save_all": True, "append_images": [other, colour]}
    files = {}

    def add(name: str, image: Image.Image, kind: str, **options: object) -> None:
        file = io.BytesIO()
        image.save(file, kind, **options)
        files[name] = file.getvalue()

    for kind in (
        "PNG",
        "JPEG",
        "BMP",
        "PPM",
        "TGA",
        "WEBP",
        "GIF",
        "TIFF",
        "JPEG2000",
        "AVIF",
        "PCX",
        "SGI",
        "ICO",
        "IM",
    ):
        add(f"a.{kind.lower().replace('jpeg2000', 'jp2')}", colour, kind)
    for kind in ("PNG", "GIF", "WEBP", "TIFF", "AVIF"):
        add(f"series.{kind.lower()}", colour, kind, **series)
    add("mpo.jpg", colour, "MPO", **series)
    add("progressive.jpg", colour, "JPEG", progressive=True, exif=exif)
    add("cmyk.jpg", colour.convert("CMYK"), "JPEG")
    for compression in ("tiff_lzw", "jpeg", "tiff_deflate", "packbits"):
        add(f"{compression}.tif", colour, "TIFF", compression=compression, exif=exif)
    for name, image in (("deep", deep), ("palette", colour.convert("P")), ("bits", colour.convert("1"))):
        add(f"{name}.png", image, "PNG")
        add(f"{name}.tif", image, "TIFF")
    add("alpha.png", colour.convert("LA"), "PNG")
    add("real.tif", real, "TIFF")
    return files


class Loader:
    """Good files of one kind, and how they are read.

    Attributes:
      files: Names and contents; one at a time is mutated.
      read: Reads all of a folder.
      refusals: What may be raised.
    """

    def __init__(
        self,
        files: dict[str, bytes],
        read: Callable[[Path], object],
        refusals: tuple[type[Exception], ...] = (UserError,),
    ) -> None:
        self.files, self.read, self.refusals = files, read, refusals

    def run(self, count: int, seed: int) -> dict[str, float]:
        """Mutates and reads `count` files."""
        random, names = np.random.RandomState(seed), sorted(self.files)
        result = {"tried": count, "refused": 0, "slowest": 0.0}
        with tempfile.TemporaryDirectory() as folder:
            for name, content in self.files.items():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_bytes(content)
            self.read(Path(folder))  # good files are read
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for number in range(count):
                name = names[number % len(names)]
                (Path(folder) / name).write_bytes(mutate(self.files[name], random))
                start = time.perf_counter()
                result["refused"] += not self._is_read(Path(folder), f"file {number}, {name}, seed {seed}")
                result["slowest"] = max(result["slowest"], time.perf_counter() - start)
                (Path(folder) / name).write_bytes(self.files[name])
        result["grown_mb"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
        return result

    def _is_read(self, folder: Path, what: str) -> bool:
        signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self.read(folder)
        except self.refusals as error:
            if "\n" in str(error) or not str(error):
                raise AssertionError(f"{what}: the reason is no line: {error!r}") from error
            return False
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return True


def images() -> Loader:
    """Each image by itself: the one that is mutated is told by its content."""
    from ddr_tf.images import FrameFormat, read_pictures

    files = image_files()
    shape = FrameFormat((16, 16), value_range=(0, 255))

    def read(folder: Path) -> None:
        for name, content in files.items():
            if (folder / name).read_bytes() != content:
                list(read_pictures(folder / name, shape))

    return Loader(files, read, (ValueError,))


def frame_folders() -> Loader:
    """A frame folder with labels; damaged images are remarks."""
    from ddr_tf.data.frame_folders import FrameFolders

    images = image_files()
    files = {f"root/{sequence}/{name}": content for sequence in "ab" for name, content in images.items()}
    names = [name for name in images if not name.startswith("series")]
    lines = [f"{sequence},{name},{len(name)},word {name[0]}\n" for sequence in "ab" for name in names]
    files["root/labels.csv"] = ("sequence,frame,age,town\n" + "".join(lines)).encode()

    def read(folder: Path) -> None:
        FrameFolders(
            str(folder / "root"), 16, cache_dir=str(folder / "cache"), max_bad_fraction=0.5, held_out_fraction=0.5
        )
        shutil.rmtree(folder / "cache")

    return Loader(files, read)


def labels() -> Loader:
    """The table of labels alone."""
    from ddr_tf.data.frame_store import FrameStore
    from ddr_tf.data.labels import described, read_labels

    store = FrameStore(None, ["a", "b"], [["a/1.png", "a/2.png"], ["b/1.png", "b/s.tif#1", "b/s.tif#2"]], [])
    frames = "sequence,frame,age,town\na,1,3.5,Ulm\na,2.png,NA,Bonn\nb,s.tif#1,1e3,\nb,s#2,-,Ulm\n"
    files = {"frames.csv": frames.encode(), "sequences.csv": b'\xef\xbb\xbfsequence;age\r\na;3,5\r\nb;"4"\r\n'}

    def read(folder: Path) -> None:
        for name in files:
            described(read_labels(folder / name, store))

    return Loader(files, read)


def cache() -> Loader:
    """The cache of a frame folder: damage is mended, so nothing is refused and the frames are the same."""
    from ddr_tf.data.frame_folders import FrameFolders

    root = Path(tempfile.mkdtemp())
    for number in range(8):
        (root / "frames" / str(number // 4)).mkdir(parents=True, exist_ok=True)
        pixels = np.random.RandomState(number).randint(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "frames" / str(number // 4) / f"{number}.png")

    def frames(folder: Path) -> bytes:
        return FrameFolders(str(root / "frames"), 16, cache_dir=str(folder))._bank.numpy().tobytes()

    expected = frames(root / "cache")
    files = {str(path.relative_to(root / "cache")): path.read_bytes() for path in (root / "cache").glob("*/*.*")}
    files = {name: content for name, content in files.items() if not name.endswith("tsv")}

    def read(folder: Path) -> None:
        if frames(folder) != expected:
            raise AssertionError("other frames")

    return Loader(files, read, ())


def shards() -> Loader:
    """Shards with their description and labels."""
    from conftest import Labelled
    from ddr_tf.data.shards import write_shards
    from ddr_tf.data.tfrecords import TFRecords

    source = Path(tempfile.mkdtemp())
    write_shards(Labelled(), source, 0.05)
    files = {path.name: path.read_bytes() for path in source.iterdir()}

    def read(folder: Path) -> None:
        data = TFRecords(str(folder))
        if damage := data.damage():
            raise UserError(damage)
        for number in (0, data.num_sequences - 1):
            data.frames(np.array([number]), np.array([0]))

    return Loader(files, read)


def numbers() -> Loader:
    """MNIST's files and those of the published Moving MNIST."""
    from conftest import draw_mnist
    from ddr_tf.data.moving_mnist import MovingMNIST, PublishedMovingMNIST

    source = Path(tempfile.mkdtemp())
    draw_mnist(source / "mnist")
    (source / "moving_mnist").mkdir()
    np.save(source / "moving_mnist/mnist_test_seq.npy", np.zeros((20, 12, 64, 64), np.uint8))
    files = {str(path.relative_to(source)): path.read_bytes() for path in source.glob("*/*")}

    def read(folder: Path) -> None:
        MovingMNIST(str(folder), 4, 2).frames(np.array([0, 5], np.int32), np.array([0, 19], np.int32))
        PublishedMovingMNIST(str(folder))

    return Loader(files, read)


def annotations() -> Loader:
    """Annotations of Aff-Wild, and boxes of faces."""
    from ddr_tf.data.aff_wild import find_annotations, read_annotation
    from ddr_tf.preparation.face_tracks import read_squares

    points = "version: 1\nn_points: 4\n{\n1.5 2\n1.5 9\n8 9\n8 2\n}\n"
    files = {
        "a/clip.txt": b"valence,arousal\n0.5,-0.5\n-5,-5\n0,1\n",
        "boxes/1.pts": points.encode(),
        "boxes/2.pts": b"",
    }

    def read(folder: Path) -> None:
        for path in find_annotations(folder / "a").values():
            read_annotation(path)
        read_squares(folder / "boxes", 0.2)

    return Loader(files, read)


def preparation() -> Loader:
    """Videos, animations and images to frame folders, and what an earlier preparation left."""
    from ddr_tf.preparation.videos import SETTINGS_FILE, SKIPPED_FILE, Settings, prepare

    source = Path(tempfile.mkdtemp())
    files = {f"in/{name}": content for name, content in image_files().items() if name.startswith("series")}
    import cv2

    for name, code in (("a.mp4", "mp4v"), ("a.avi", "MJPG")):
        writer = cv2.VideoWriter(str(source / name), cv2.VideoWriter_fourcc(*code), 25, (64, 48))
        for number in range(5):
            writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
        writer.release()
        files[f"in/{name}"] = (source / name).read_bytes()
    files["in/good/1.png"] = files["in/good/2.png"] = image_files()["a.png"]
    files[f"out/{SKIPPED_FILE}"] = b"notes.txt\tneither\n"
    files[f"out/{SETTINGS_FILE}"] = json.dumps(vars(Settings(size=16))).encode()

    def read(folder: Path) -> None:
        settings = folder / "out" / SETTINGS_FILE
        if settings.read_bytes() == files[f"out/{SETTINGS_FILE}"]:
            settings.write_text(json.dumps(vars(Settings(size=16)) | {"input": str((folder / "in").resolve())}))
        try:
            prepare(folder / "in", folder / "out", Settings(size=16), workers=1)
        finally:
            shutil.rmtree(folder / "out")
            (folder / "out").mkdir()
            for name in (SETTINGS_FILE, SKIPPED_FILE):
                (folder / "out" / name).write_bytes(files[f"out/{name}"])

    return Loader(files, read)


def runs() -> Loader:
    """What a run directory holds in JSON."""
    from ddr_tf.runs import read_metrics, read_record

    record = {
        "seed": 0,
        "data": "0a",
        "step": 2,
        "finished": True,
        "training_minutes": 0.1,
        "settings": {"train.steps": "2"},
        "versions": {},
        "command": "a",
    }
    metrics = [{"step": 1, "split": "train", "elbo": -3.5, "frames_per_second": 9.0}]
    files = {
        "run.json": json.dumps(record).encode(),
        "metrics.jsonl": "".join(json.dumps(line) + "\n" for line in metrics).encode(),
    }

    def read(folder: Path) -> None:
        read_record(folder)
        read_metrics(folder)

    return Loader(files, read)


def densities() -> Loader:
    """The densities of f and z that samples are drawn from."""
    from ddr_tf.model.dynamic_density import DynamicDensity
    from ddr_tf.model.static_density import StaticDensity

    loads = {"static_density.npz": StaticDensity.load, "dynamic_density.npz": DynamicDensity.load}
    shipped = Path(__file__).parents[2] / "saved_models/puppets/1/assets.extra"
    files = {name: (shipped / name).read_bytes() for name in loads}

    def read(folder: Path) -> None:
        for name, load in loads.items():
            load(folder / name)

    return Loader(files, read)


def models() -> Loader:
    """A model as Keras keeps it."""
    from ddr_tf.runs import load_keras_model
    from ddr_tf.serving.keras_file import write_keras_file
    from tiny import TINY

    source = Path(tempfile.mkdtemp()) / "model.keras"
    write_keras_file(TINY((16, 16, 1)), source)

    def read(folder: Path) -> None:
        load_keras_model(folder / "model.keras")

    return Loader({"model.keras": source.read_bytes()}, read)


LOADERS = (images, frame_folders, labels, cache, shards, numbers, annotations, preparation, runs, densities, models)


def main() -> None:
    """See the module."""
    seed, counts = int(sys.argv[1]), dict(argument.split("=") for argument in sys.argv[2:])
    warnings.simplefilter("ignore")

    def too_slow(*_: object) -> None:
        raise TimeoutError(f"more than {MAX_SECONDS} s")

    signal.signal(signal.SIGALRM, too_slow)
    with tempfile.TemporaryDirectory() as temporary:
        tempfile.tempdir = temporary
        for loader in LOADERS:
            if loader.__name__ in counts:
                result = loader().run(int(counts[loader.__name__]), seed)
                print(json.dumps({"loader": loader.__name__} | result))


if __name__ == "__main__":
    main()
