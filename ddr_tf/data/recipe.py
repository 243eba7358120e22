"""How a dataset was made, as an object for JSON; and the dataset made from it again."""

import importlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.errors import UserError

OWN = "ddr_tf"  # the package whose datasets anybody's recipe may name


def recipe(dataset: SequenceDataset) -> dict[str, Any] | None:
    """The class of a dataset and its arguments, with absolute paths; None if the arguments do not fit in JSON.

    Returns:
      `class`, `module`, `module_folder` (None for the datasets of this package) and `arguments`.
    """
    cls = type(dataset)
    arguments = dict(dataset.arguments)
    for name in cls.PATHS:
        if arguments.get(name) is not None:
            arguments[name] = os.path.abspath(os.path.expanduser(arguments[name]))
    try:
        json.dumps(arguments)
    except (TypeError, ValueError):
        return None
    return {
        "class": cls.__qualname__,
        "module": cls.__module__,
        "module_folder": _folder(cls.__module__),
        "arguments": arguments,
    }


def _folder(module: str) -> str | None:
    """The folder from which a module outside this package is imported."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or _is_own(module):
        return None
    return str(Path(file).resolve().parents[module.count(".")])


def _is_own(module: str) -> bool:
    return module.split(".")[0] == OWN


def is_recipe(made: Any) -> bool:
    """Whether an object that was read from a file has the form of what `recipe` returns."""
    if not isinstance(made, dict):
        return False
    names = (made.get("class"), made.get("module"), made.get("module_folder") or "")
    return all(isinstance(name, str) for name in names) and isinstance(made.get("arguments"), dict)


def is_foreign(made: Mapping[str, Any]) -> bool:
    """Whether to make the dataset again runs code that is not of this package."""
    return not _is_own(made["module"])


def make(made: Mapping[str, Any], data_dir: str | None = None) -> SequenceDataset:
    """The dataset that a recipe describes.

    Args:
      made: What `recipe` returned.
      data_dir: Where the data are; None: where they were. For a dataset of a folder of the user's own, it is that
        folder.

    Raises:
      UserError: If there is no such dataset, or its data are not there.
    """
    cls = _class(made)
    arguments = dict(made["arguments"])
    if data_dir is not None and cls.PATHS:
        arguments[cls.PATHS[0]] = data_dir
    for name in cls.PATHS[1:]:  # folders of caches, which may belong to a machine that is gone
        if arguments.get(name) is not None and not Path(arguments[name]).parent.is_dir():
            arguments[name] = None
    try:
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()})
    except UserError as error:
        if data_dir is None and cls.PATHS and not os.path.exists(arguments.get(cls.PATHS[0]) or ""):
            raise UserError(f"{error} The run had its data there; --data_dir says where they are now.") from error
        raise
    except TypeError as error:
        raise UserError(f"The dataset {made['class']} cannot be made again from dataset.json ({error}).") from error


def _class(made: Mapping[str, Any]) -> type[SequenceDataset]:
    folder = made.get("module_folder")
    try:
        if folder and not _is_own(made["module"]) and folder not in sys.path:
            sys.path.append(folder)
        cls = importlib.import_module(made["module"])
        for name in made["class"].split("."):
            cls = getattr(cls, name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"The dataset {made['class']} of the module {made['module']} is not there any more ({error}); dataset.json "
            "says that the run was trained on it."
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, SequenceDataset)):
        raise UserError(f"dataset.json names {made['module']}.{made['class']}, which is no dataset.")
    return cls
