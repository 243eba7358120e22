"""What a run directory holds, finished or not: the names of its files, and their readers.

config.gin                the operative gin config
run.json                  versions, seed, command, progress
dataset.json              name, licence and split of the data, and how to make the dataset again
checkpoints/last          the newest two checkpoints, each with a JSON file of its checksums
checkpoints/best          the best by held-out ELBO
metrics.jsonl             an object a line, each with "step" and "split"
logs/train, logs/held_out TensorBoard
model.keras, *.png        when it has finished, of the step whose held-out ELBO was best
model_last.keras          of the last step, if that is another
static_density.npz,
dynamic_density.npz       when it has finished: the densities of f and z that samples of model.keras are drawn from
evaluation.json           when it has been evaluated
lock                      held by the process that trains
"""

import ast
import contextlib
import hashlib
import importlib
import os
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

import ddr_tf
from ddr_tf import config, files
from ddr_tf.data import recipe
from ddr_tf.data.sequence_dataset import TRAIN, SequenceDataset
from ddr_tf.errors import UserError

if (
    typing.TYPE_CHECKING
):  # imports TensorFlow Probability, which takes half a second and which exported models do not need
    from ddr_tf.model.bounds import Bounds
    from ddr_tf.model.ddr import DDR

CONFIG, RECORD, DATASET, METRICS, MODEL = "config.gin", "run.json", "dataset.json", "metrics.jsonl", "model.keras"
MODEL_LAST = "model_last.keras"
EVALUATION, EVALUATION_SETTINGS = "evaluation.json", "evaluation_settings.json"
CHECKPOINTS, LOGS, LOCK = "checkpoints", "logs", "lock"
LAST, BEST = "last", "best"
STATIC_DENSITY, DYNAMIC_DENSITY = "static_density.npz", "dynamic_density.npz"
RECIPE = "recipe"  # in dataset.json
INDEX, DATA, MANIFEST = ".index", ".data-00000-of-00001", ".json"  # what follows the name of a checkpoint
MAX_METRICS_BYTES = 10**9
# Settings that say where things are on a machine. They may differ between machines that train together, and change when
# data move.
OF_A_MACHINE = {
    "data_dir",
    "AffWild.cache_dir",
    "AffWild.data_dir",
    "FrameFolders.cache_dir",
    "FrameFolders.root",
    "MovingMNIST.data_dir",
    "PublishedMovingMNIST.data_dir",
    "Sprites.data_dir",
    "TFRecords.folder",
}
# What `run.json` has at least, in every version.
RECORD_FIELDS = {"settings": dict, "versions": dict, "step": int, "finished": bool, "data": str, "seed": int}
RECORD_FIELDS |= {"training_minutes": (int, float)}
TRUST = "DDR_TF_TRUST"  # the environment variable that lets runs of other users import their modules


class Checkpoint(NamedTuple):
    """A checkpoint that is in a run directory, whole or not.

    Attributes:
      path: Without what follows its name, as TensorFlow takes it.
      step: Updates that the model had had.
      manifest: `held_out_elbo` at this step or None, `log` for `TrainingLog`, and `files`, name -> blake2b; None: of a
        version that wrote none, or not readable.
    """

    path: Path
    step: int
    manifest: dict[str, Any] | None

    def damage(self) -> str | None:
        """What is wrong with it; None: nothing that can be seen without TensorFlow."""
        if self.manifest is None:
            missing = [end for end in (INDEX, DATA) if not Path(f"{self.path}{end}").is_file()]
            return f"{self.path.name}{missing[0]} is missing" if missing else None
        for name, expected in self.manifest["files"].items():
            try:
                if digest(self.path.with_name(name)) != expected:
                    return f"the checksum of {name} differs"
            except FileNotFoundError:
                return f"{name} is missing"
            except (OSError, ValueError) as error:
                return f"{name} cannot be read ({error})"
        return None


def digest(path: Path) -> str:
    """The checksum of a file, as a manifest has it."""
    with files.open_regular(path) as file:
        return hashlib.file_digest(file, hashlib.blake2b).hexdigest()


def checkpoints(run_dir: Path, kind: str) -> list[Checkpoint]:
    """The checkpoints in `checkpoints/last` or `checkpoints/best`, the newest first.

    Those without a manifest are left out, since a killed process did not complete them. Version 0.2.0 wrote none.

    Raises:
      UserError: If the folder cannot be read.
    """
    folder = run_dir / CHECKPOINTS / kind
    try:
        names = os.listdir(folder) if folder.is_dir() else []
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}).") from error
    steps = {int(match[1]) for name in names if (match := re.fullmatch(r"ckpt-(\d{1,18})\..*", name))}
    listed = [
        Checkpoint(folder / f"ckpt-{step}", step, _read_manifest(folder / f"ckpt-{step}{MANIFEST}"))
        for step in sorted(steps, reverse=True)
    ]
    return [checkpoint for checkpoint in listed if checkpoint.manifest or not _writes_manifests(run_dir)]


def _writes_manifests(run_dir: Path) -> bool:
    """Whether the version that wrote `run.json` completes a checkpoint with its manifest; 0.2.0 had none."""
    try:
        return not str(files.read_json(run_dir / RECORD)["versions"]["ddr_tf"]).startswith("0.2.")
    except (OSError, ValueError, KeyError, TypeError):
        return True


def all_checkpoints(run_dir: Path) -> list[Checkpoint]:
    """Those of `checkpoints/last` and `checkpoints/best`, the newest first.

    Raises:
      UserError: If a folder cannot be read.
    """
    both = [checkpoint for kind in (LAST, BEST) for checkpoint in checkpoints(run_dir, kind)]
    return sorted(both, key=lambda checkpoint: -checkpoint.step)


def _read_manifest(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        manifest = files.read_json(path)
        if all(isinstance(expected, str) for expected in manifest["files"].values()):
            return manifest
    return None


def newest_checkpoint(run_dir: Path) -> Path | None:
    """Where a run resumes, of the checkpoints that look whole; None: there is none."""
    return next((checkpoint.path for checkpoint in all_checkpoints(run_dir) if checkpoint.damage() is None), None)


def last_good(run_dir: Path) -> str:
    """What to tell people whose run went wrong about its checkpoints."""
    path = newest_checkpoint(run_dir)
    return f"the last good checkpoint is {path}" if path else "there was no checkpoint yet"


def check_same_data(run_dir: Path, record: Mapping[str, Any], dataset: SequenceDataset) -> None:
    """Raises UserError if the fingerprint of the dataset is not the one that the run was begun with, or its content."""
    if record.get("data") != dataset.fingerprint():
        raise UserError(
            f"The data have changed since {run_dir} was begun: there are other sequences or frames now, or others are "
            "held out. Bring back the data, or give another --run_dir."
        )
    if None not in (record.get("content"), dataset.content) and record["content"] != dataset.content:
        raise UserError(
            f"The data have changed since {run_dir} was begun: files have other sizes now, or arrays other pixels. "
            "Bring back the data, or give another --run_dir."
        )


def load_model(run_dir: Path, checkpoint: str = BEST) -> "DDR":
    """The model of a finished run; the dataset need not be there.

    Args:
      run_dir: Folder of the run.
      checkpoint: "best": of the step whose held-out ELBO was best; "last": of the last. (Runs of version 0.2.0 have
        the last one only.)

    Raises:
      UserError: If the run has not finished, or the file is damaged or of another version of this package.
    """
    path = run_dir / MODEL
    if not path.is_file():
        why = files.why_no_folder(run_dir) or f"there is no {MODEL} in it"
        raise UserError(f"{run_dir} holds no finished run ({why}).")
    if (run_dir / RECORD).is_file() and not read_record(run_dir)["finished"]:
        raise UserError(
            f"{run_dir} is being trained for longer and has not finished: its model.keras is of before. The command "
            "that trains it finishes it."
        )
    model = read_keras_model(model_file(run_dir, checkpoint))
    if model_file(run_dir, checkpoint) == path:  # to codes of another step no density was fitted
        read_densities(run_dir, model)
    return model


def model_file(run_dir: Path, checkpoint: str = BEST) -> Path:
    """The file that `load_model` reads."""
    last = run_dir / MODEL_LAST
    return last if checkpoint == LAST and last.is_file() else run_dir / MODEL


def read_densities(directory: Path, model: "Bounds") -> None:
    """Gives a model the densities that its samples are drawn from, as far as the folder has them.

    Runs of before 0.3.0 have none.

    Raises:
      UserError: If a file is damaged, or of another model.
    """
    from ddr_tf.model import dynamic_density, static_density

    if (path := directory / STATIC_DENSITY).exists():
        model.static_density = static_density.StaticDensity.load(path)
        _check_size(path, "f", len(model.static_density.offset), model.static_dim)
    if (path := directory / DYNAMIC_DENSITY).exists():
        model.dynamic_density = dynamic_density.DynamicDensity.load(path)
        _check_size(path, "z", model.dynamic_density.dynamic_dim, model.dynamic_dim)


def _check_size(path: Path, code: str, size: int, expected: int) -> None:
    if size != expected:
        raise UserError(f"{path} is of a model with {code} of {size} numbers, not {expected}; remove it.")


def write_densities(directory: Path, model: "Bounds") -> None:
    """Writes what `read_densities` reads."""
    if model.static_density is not None:
        model.static_density.save(directory / STATIC_DENSITY)
    if model.dynamic_density is not None:
        model.dynamic_density.save(directory / DYNAMIC_DENSITY)


def load_keras_model(place: Path) -> "DDR":
    """The model of a finished run, of a `.keras` file, or of an exported model that holds its `.keras` file.

    Raises:
      UserError: If there is none, or it cannot be read.
    """
    if place.is_file():
        return read_keras_model(place)
    versions = sorted((path for path in place.glob("*") if path.name.isdecimal()), key=lambda path: -int(path.name))
    for folder in [place, *versions]:
        if (model := folder / "assets.extra" / MODEL).is_file():
            return read_keras_model(model)
    if (place / "saved_model.pb").exists() or versions:
        raise UserError(f"{place} is an exported model without its {MODEL}; export it again with --keep_keras.")
    return load_model(place)


def read_keras_model(path: Path) -> "DDR":
    """The model in a `.keras` file.

    Raises:
      UserError: If the file is damaged, or of another version of this package.
    """
    from ddr_tf.model.ddr import DDR

    try:
        model = keras.models.load_model(path, compile=False)  # the model will be used, not trained further
    except Exception as error:  # Keras raises anything for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path} cannot be read by ddr_tf {ddr_tf.__version__} ({reason}); run.json beside it says which version "
            "wrote it. If that is this one it is damaged: delete it, and the command that trained the run writes it "
            "again from its checkpoint."
        ) from error
    if not isinstance(model, DDR):
        raise UserError(f"{path} holds no model of ddr_tf, but a {type(model).__name__}.")
    return model


def read_record(run_dir: Path) -> dict[str, Any]:
    """`run.json`.

    Raises:
      UserError: If it cannot be read.
    """
    return _read_object(run_dir / RECORD, RECORD_FIELDS)


def read_dataset(run_dir: Path) -> dict[str, Any]:
    """`dataset.json`.

    Raises:
      UserError: If it cannot be read.
    """
    return _read_object(run_dir / DATASET, {"name": str})


def _read_recipe(directory: Path) -> dict[str, Any] | None:
    """How the dataset of a run is made again; None: an earlier version wrote the run, or it does not fit in JSON.

    Raises:
      UserError: If `dataset.json` cannot be read.
    """
    path = directory / DATASET
    made = read_dataset(directory).get(RECIPE) if path.exists() else None
    if made is not None and not recipe.is_recipe(made):
        raise UserError(f"{path} cannot be read (its recipe is none); it belongs to a run, bring it back from a copy.")
    return made


def _read_object(path: Path, fields: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """An object in a JSON file that has at least these fields, of these types."""
    try:
        content = files.read_json(path)
        for name, kind in fields.items():
            if not isinstance(content, dict) or not isinstance(content.get(name), kind):
                raise ValueError(f"it holds no {name}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({reason}); it belongs to a run, bring it back from a copy.") from error
    return content


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`.

    Raises:
      UserError: If it cannot be read.
    """
    path = run_dir / METRICS
    try:
        lines = files.read_limited(path, MAX_METRICS_BYTES).decode().splitlines()
        return [_metrics_line(line, number) for number, line in enumerate(lines, start=1)]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); it belongs to a run.") from error
    except ValueError as error:
        raise UserError(f"{path} cannot be read ({error}); remove the lines that are damaged.") from error


def _metrics_line(line: str, number: int) -> dict[str, Any]:
    try:
        return parse_metrics(line)
    except ValueError as error:
        raise ValueError(f"line {number} is damaged: {error}") from error


def parse_metrics(line: str) -> dict[str, Any]:
    """A line of `metrics.jsonl`.

    Raises:
      ValueError: If it is damaged.
    """
    content = files.parse_json(line)
    if not isinstance(content, dict) or not isinstance(content.get("step"), int) or "split" not in content:
        raise ValueError("it has no step and split")
    return content


def load_sequences(directory: Path, data_dir: str | None = None) -> SequenceDataset:
    """The dataset that a run was trained on.

    Args:
      directory: Holds `run.json` of the run, and `dataset.json` if a version from 0.3.0 wrote it.
      data_dir: Where its data are; None: where the run had them. See `recipe.make`.

    Raises:
      UserError: If the sequences are others now, so that held-out ones may have been trained on.
    """
    record = read_record(directory)
    made = _read_recipe(directory) or _recipe_from_settings(directory, record["settings"])
    if recipe.is_foreign(made):
        check_trusted(directory, f"the module {made['module']}")
    sequences = recipe.make(made, data_dir)
    check_same_data(directory, record, sequences)
    return sequences


def check_trusted(directory: Path, what: str) -> None:
    """Raises UserError if reading a run would execute code of its own, and another user made it."""
    owner = (directory / RECORD).stat().st_uid
    if owner != getattr(os, "getuid", lambda: owner)() and os.environ.get(TRUST) != "1":
        raise UserError(
            f"{directory} is a run of another user, and to make its dataset {what} would be executed; look at it, and "
            f"set the environment variable {TRUST}=1 if you trust it."
        )


def _recipe_from_settings(directory: Path, settings: Mapping[str, str]) -> dict[str, Any]:
    """The recipe of a dataset from the settings as `run.json` has them, "Name.parameter" -> a value in gin's notation.

    Raises:
      UserError: If it cannot be told from them.
    """
    reference = settings.get("train.sequences", "")
    name = reference.lstrip("@").rsplit(".", 1)[-1]
    try:
        cls = config.registered(name) or _import_what_config_imports(directory) or config.registered(name)
        arguments = {
            parameter.removeprefix(f"{name}."): _value(text, settings)
            for parameter, text in settings.items()
            if parameter.startswith(f"{name}.")
        }
        made = {"class": cls.__qualname__, "module": cls.__module__, "module_folder": None}
    except (AttributeError, KeyError, ValueError, SyntaxError) as error:
        raise UserError(
            f"run.json in {directory} does not tell which dataset the run was trained on ({reference or 'nothing'})."
        ) from error
    return made | {"arguments": arguments}


def _import_what_config_imports(directory: Path) -> None:
    """Imports the modules that `config.gin` imports, for datasets that are not of this package.

    Raises:
      UserError: If another user made the run, or there is no such module.
    """
    text = files.read_limited(directory / CONFIG, 10_000_000).decode()
    for module in re.findall(r"^import ([\w.]+)$", text, re.MULTILINE):
        check_trusted(directory, f"the module {module}")
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"{directory / CONFIG} imports {module}, which is not there ({error}).") from error


def _value(text: str, settings: Mapping[str, str]) -> Any:
    """A value in gin's notation, macros resolved."""
    return _value(settings[text[1:]], settings) if text.startswith("%") else ast.literal_eval(text)


def image_settings(directory: Path) -> dict[str, Any]:
    """How images became frames in training: `fit` and `value_range` of `images.FrameFormat`.

    Args:
      directory: Holds `dataset.json` or `run.json` of a run.

    Raises:
      UserError: If they cannot be read.
    """
    made = _read_recipe(directory)
    if made:
        settings = made["arguments"]
    else:
        texts = read_record(directory)["settings"]
        names = {"fit": "FrameFolders.fit", "value_range": "FrameFolders.value_range"}
        settings = {name: ast.literal_eval(texts[key]) for name, key in names.items() if key in texts}
    return {"fit": settings.get("fit", "crop"), "value_range": settings.get("value_range")}


def load_run(run_dir: Path, data_dir: str | None = None) -> tuple["DDR", SequenceDataset]:
    """The final model of a run and the dataset that it was trained on.

    Raises:
      UserError: If the run has not finished; or as `load_sequences`.
    """
    model = load_model(run_dir)
    return model, load_sequences(run_dir, data_dir)


def cost(run_dir: Path, model: "DDR") -> dict[str, float]:
    """What a finished run took, as far as it was recorded.

    Returns:
      `parameters`; `training_minutes` without evaluations and checkpoints; `training_frames_per_second`, the median;
      `training_peak_memory_mb`, of the whole process.

    Raises:
      UserError: If `run.json` or `metrics.jsonl` cannot be read.
    """
    record = read_record(run_dir)
    lines = read_metrics(run_dir)
    speeds = [line["frames_per_second"] for line in lines if line["split"] == TRAIN]
    costs = {
        "parameters": model.count_params(),
        "training_minutes": record.get("training_minutes"),
        "training_frames_per_second": float(np.median(speeds)) if speeds else None,
        "training_peak_memory_mb": record.get("peak_memory_mb"),
    }
    return {name: value for name, value in costs.items() if value is not None}
