"""The folders of exported models: versions of a SavedModel, found, loaded, and put in place whole or not at all.

What is in them is written by `exporting`.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from ddr_tf import files, shipped, startup
from ddr_tf.errors import UserError
from ddr_tf.runs import digest

SAVED_MODEL = "saved_model.pb"
EXTRA = "assets.extra"  # the folder of a SavedModel that TensorFlow leaves to others
CHECKSUMS = "checksums.json"  # of what TensorFlow loads; in `EXTRA`


def versions(directory: Path) -> dict[int, Path]:
    """The versions in `saved_models/<name>`, in order: number -> folder."""
    if not directory.is_dir():
        return {}
    folders = [path for path in directory.iterdir() if path.name.isdecimal() and path.is_dir()]
    return dict(sorted((int(path.name), path) for path in folders))


def find_saved_model(directory: Path) -> Path:
    """A SavedModel: the directory itself, or its newest version.

    Args:
      directory: `saved_models/<name>` or `saved_models/<name>/<version>`.

    Raises:
      UserError: If there is none.
    """
    version = list(versions(directory).values() or [directory])[-1]
    if not (version / SAVED_MODEL).is_file():
        if directory.suffix == ".keras" and directory.is_file() and not shipped.is_run(directory.parent):
            raise UserError(
                f"{directory} is a model of Keras: read it by keras.models.load_model, after import ddr_tf.training; "
                "python -m ddr_tf.export makes what is loaded here of a run."
            )
        why = files.why_no_folder(directory) or f"there is no {version / SAVED_MODEL}"
        raise UserError(f"{directory} holds no SavedModel ({why}).")
    return version


def load_signatures(version: Path) -> Any:
    """What TensorFlow loads from a SavedModel, as an object that has `signatures`.

    Raises:
      UserError: If it is damaged or cannot be loaded, or was not written by `export`.
    """
    _check_checksums(version)
    try:
        files.check_all_regular(version)
        with startup.without_onednn_notes(), files.without_patterns(version) as folder:
            loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # of any type, which depends on the damage
        raise UserError(f"{version} cannot be loaded ({type(error).__name__}: {error}); export it again.") from error
    if missing := {"encode", "decode"} - set(getattr(loaded, "signatures", ())):
        raise UserError(f"{version} is no exported model of ddr_tf: it has no signature {min(missing)}.")
    return loaded


def write_checksums(version: Path) -> None:
    """Writes the checksums of what TensorFlow loads, since it takes a changed number in a graph for a right one."""
    paths = [path.relative_to(version) for path in version.rglob("*") if path.is_file()]
    names = sorted(path.as_posix() for path in paths if path.parts[0] != EXTRA)
    files.write_json(version / EXTRA / CHECKSUMS, {name: digest(version / name) for name in names})


def _check_checksums(version: Path) -> None:
    """Raises UserError for a file that is not as it was exported. Before 0.3.0 no checksums were written."""
    path = version / EXTRA / CHECKSUMS
    if not path.exists():
        return
    try:
        for name, expected in files.read_json(path).items():
            if digest(version / name) != expected:
                raise ValueError(f"the checksum of {name} differs")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{version} is damaged ({error}); export it again, or bring it back from a copy.") from error


@contextlib.contextmanager
def folder_for(directory: Path) -> Iterator[Path]:
    """An empty folder on the same disk as a directory, which need not exist; removed with all that is still in it.

    What is made there is put in place by renaming. What a killed process has left there is removed, too.

    Raises:
      UserError: For every `OSError` while it is used.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} cannot be written (it is not a folder).")
    try:
        there = [path for path in (directory, *directory.absolute().parents) if path.is_dir()]
        for path in there:  # a process may have been killed before or after it made the directory
            files.remove_abandoned(path)
        with files.temporary_folder(there[0]) as partial:
            yield partial
    except OSError as error:
        raise UserError(f"{directory} cannot be written ({error}).") from error


def write_version(write: Callable[[Path], None], directory: Path) -> Path:
    """Makes the next version of `saved_models/<name>`: whole, or not at all.

    Args:
      write: Writes everything into an empty folder.
      directory: `saved_models/<name>`; made if it does not exist.

    Returns:
      `saved_models/<name>/<version>`, 1 if there was none.

    Raises:
      UserError: If it cannot be written.
    """
    with folder_for(directory) as partial:
        whole = partial / "version"
        whole.mkdir()
        write(whole)
        directory.mkdir(parents=True, exist_ok=True)
        while True:
            version = directory / str(max([0, *versions(directory)]) + 1)
            if files.put_where_free(whole, version):  # otherwise another process has made this version first
                return version
