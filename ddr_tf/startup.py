"""What happens before a program of ours prints its first line: environment variables, TensorFlow imported quietly."""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def set_environment() -> None:
    """Sets what TensorFlow and Keras read when they are imported, so it comes before that."""
    # Off by default on CPUs without AVX-512, and a training step is 1.7 times as fast with it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # Later notes, of the first batch, would break the progress bar; errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # The models are made of TensorFlow's operations, so another backend could not run them.
    os.environ["KERAS_BACKEND"] = "tensorflow"


def import_tensorflow() -> None:
    """Imports TensorFlow and looks for its devices, without the notes that it prints of its own.

    No environment variable silences them in TensorFlow 2.21, so they go to a file. They are shown after all if the
    import fails, or if there is an NVIDIA GPU that TensorFlow cannot use, since they say why.
    """
    if "tensorflow" in sys.modules:
        return
    wanted = True
    with _stderr_lines(lambda _: wanted):
        tensorflow = importlib.import_module("tensorflow")
        gpus = tensorflow.config.list_physical_devices("GPU")
        wanted = Path("/dev/nvidia0").exists() and not gpus


def without_onednn_notes() -> contextlib.AbstractContextManager[None]:
    """A block in which oneDNN does not print, as an error, that it cannot compute with float16 on this processor.

    Nobody asks it to: weights are only kept in float16. What else is written to standard error comes after the block.
    """
    return _stderr_lines(lambda line: b"oneDNN supports DT_" not in line)


@contextlib.contextmanager
def _stderr_lines(is_wanted: Callable[[bytes], bool]) -> Iterator[None]:
    """A block after which those lines that were written to standard error meanwhile are shown that are wanted."""
    sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # standard error is closed, as for some services, so nothing shows anyway
        yield
        return
    with tempfile.TemporaryFile() as notes:
        try:
            os.dup2(notes.fileno(), 2)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            notes.seek(0)
            os.write(2, b"".join(filter(is_wanted, notes)))


def import_for_program() -> None:
    """`import_tensorflow` for a program of ours, which does not use Keras's wrappers of scikit-learn and matplotlib.

    TensorFlow imports Keras, which imports both where they are installed: a fifth of the time of all imports.
    """
    hidden = [name for name in ("sklearn", "matplotlib") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # None: an import of it fails
    try:
        import_tensorflow()
    finally:
        for name in hidden:
            del sys.modules[name]
