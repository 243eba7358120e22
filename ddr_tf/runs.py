"""What a run directory holds, finished or not: the names of its files, and their readers.

config.gin                the operative gin config
run.json                  versions, seed, command, progress
dataset.json              name, licence and split of the data
checkpoints/last, best    the newest, and the best by held-out ELBO
metrics.jsonl             an object a line, each with "step" and "split"
logs/train, logs/held_out TensorBoard
model.keras, *.png        when it has finished
evaluation.json           when it has been evaluated
"""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import ddr_tf
from ddr_tf import config
from ddr_tf.data.sequence_dataset import TRAIN, SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR

CONFIG, RECORD, DATASET, METRICS, MODEL = "config.gin", "run.json", "dataset.json", "metrics.jsonl", "model.keras"
EVALUATION, EVALUATION_SETTINGS = "evaluation.json", "evaluation_settings.json"
CHECKPOINTS, LOGS = "checkpoints", "logs"


def newest_checkpoint(run_dir: Path) -> str | None:
    """Where a run resumes; None: there is no checkpoint."""
    return tf.train.latest_checkpoint(str(run_dir / CHECKPOINTS / "last"))


def last_good(run_dir: Path) -> str:
    """What to tell those whose run went wrong about its checkpoints."""
    path = newest_checkpoint(run_dir)
    return f"the last good checkpoint is {path}" if path else "there was no checkpoint yet"


def check_same_data(run_dir: Path, record: dict[str, Any], data: str) -> None:
    """Raises UserError if the fingerprint of the dataset is not the one that the run was begun with."""
    if record.get("data") != data:
        raise UserError(
            f"The data have changed since {run_dir} was begun: there are other sequences or frames now, or others are "
            "held out. Bring back the data, or give another --run_dir."
        )


def load_model(run_dir: Path) -> DDR:
    """The final model of a run; the dataset need not be there.

    Raises:
      UserError: If the run has not finished, or the file is damaged or of another version of this package.
    """
    path = run_dir / MODEL
    if not path.is_file():
        raise UserError(f"{run_dir} holds no finished run (there is no model.keras in it).")
    try:
        return keras.models.load_model(path, compile=False)  # to be used, not trained on
    except (ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path} cannot be read by ddr_tf {ddr_tf.__version__} ({reason}); run.json beside it says which version "
            "wrote it."
        ) from error


def read_record(run_dir: Path) -> dict[str, Any]:
    """`run.json`.

    Raises:
      UserError: If it cannot be read.
    """
    try:
        return json.loads((run_dir / RECORD).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{run_dir / 'run.json'} cannot be read ({error}).") from error


def load_sequences(directory: Path, data_dir: str | None = None) -> SequenceDataset:
    """The dataset that a run was trained on.

    Args:
      directory: Holds `config.gin` and `run.json` of the run.
      data_dir: Where datasets are; None: where the run had them.

    Raises:
      UserError: If the sequences are others now, so that held-out ones may have been trained on.
    """
    record = read_record(directory)
    config.load([str(directory / CONFIG)], data_dir=data_dir)
    sequences = config.bound("train.sequences")()
    check_same_data(directory, record, sequences.fingerprint())
    return sequences


def load_run(run_dir: Path, data_dir: str | None = None) -> tuple[DDR, SequenceDataset]:
    """The final model of a run and the dataset that it was trained on.

    Raises:
      UserError: If the run has not finished; or as `load_sequences`.
    """
    model = load_model(run_dir)
    return model, load_sequences(run_dir, data_dir)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`.

    Raises:
      UserError: If it cannot be read.
    """
    path = run_dir / METRICS
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from error


def cost(run_dir: Path, model: DDR) -> dict[str, float]:
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
