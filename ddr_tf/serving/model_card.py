"""The card of an exported model: what it is, what it was trained on, how good it is, what it is for."""

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import ddr_tf
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR
from ddr_tf.runs import DATASET, read_record

INTENDED_USE = (
    "Research and experiments with codes of what stays and what changes in frames like those that the model was "
    "trained on, within the licence of the data. Not for identifying people, judging their state of mind, or making "
    "pictures of them that others could take for real."
)
NOT_STATED = "not stated"


def model_card(model: DDR, run_dir: Path, name: str, weights: str) -> dict[str, Any]:
    """The card as an object for JSON.

    Args:
      model: The final model of the run.
      run_dir: Folder of a finished run; its `evaluation.json` is used if it is there.
      name: Of the exported model.
      weights: dtype in which they are kept.

    Raises:
      UserError: If a file of the run cannot be read.
    """
    record = read_record(run_dir)
    try:
        dataset, evaluation = (_read(run_dir / file) for file in (DATASET, "evaluation.json"))
        lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        config = (run_dir / "config.gin").read_text()
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{run_dir} is not whole ({error}).") from error
    # Runs of earlier versions have no description of their data.
    dataset = dataset or {"name": record["settings"]["train.sequences"].strip("@"), "licence": None, "splits": None}
    height, width, channels = model.frame_shape
    return {
        "name": name,
        "intended_use": INTENDED_USE,
        "dataset": dataset | {"licence": dataset["licence"] or NOT_STATED, "fingerprint": record["data"]},
        "model": {
            "height": height,
            "width": width,
            "channels": channels,
            "static_dim": model.static_dim,
            "dynamic_dim": model.dynamic_dim,
            "parameters": model.count_params(),
            "weights": weights,
        },
        "training": {key: record[key] for key in ("seed", "step", "training_minutes", "versions")},
        "exported_with": {
            "ddr_tf": ddr_tf.__version__,
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in ("tensorflow", "keras")},
        },
        "held_out": next((line for line in reversed(lines) if line["split"] == "held_out"), None),
        "evaluation": evaluation,
        "config": config,
    }


def markdown(card: Mapping[str, Any]) -> str:
    """The same to be read by people."""
    dataset, model, training = card["dataset"], card["model"], card["training"]
    splits = dataset["splits"] or {}
    counts = [f"{split}: {n['sequences']:,} sequences, {n['frames']:,} frames" for split, n in splits.items()]
    sections = [
        f"# {card['name']}",
        card["intended_use"],
        "## Data",
        _table(
            {
                "dataset": dataset["name"],
                "split": "; ".join(counts) or NOT_STATED,
                "fingerprint of sequences and split": dataset["fingerprint"],
                "licence": dataset["licence"],
            }
        ),
        "## Model",
        _table(
            {
                "frames": f"{model['height']} x {model['width']}, {model['channels']} channels",
                "static code f, dynamic code z": f"{model['static_dim']} and {model['dynamic_dim']} dimensions",
                "parameters": f"{model['parameters']:,}, kept as {model['weights']}",
                "trained": f"{training['step']:,} steps, {training['training_minutes']} minutes",
                "seed": training["seed"],
                "with": _versions(training["versions"]),
                "exported with": _versions(card["exported_with"]),
            }
        ),
        "## Figures on held-out sequences",
    ]
    if card["held_out"]:
        figures = {key: value for key, value in card["held_out"].items() if isinstance(value, float | int)}
        sections += ["While training, nats a frame; one sample of f and z.", _table(figures)]
    if card["evaluation"]:
        rows = [
            "| " + " | ".join([name, *("" if value is None else f"{value:.4g}" for value in figure.values())]) + " |"
            for name, figure in card["evaluation"].items()
            if "_with_" not in name  # of other numbers of frames; they are in the JSON
        ]
        head = ["value", "standard_error", "chance", "ceiling"]
        sections += [
            "By `ddr_tf.evaluate`, of the run's float32 weights; mean over evaluation seeds.",
            "\n".join([f"| | {' | '.join(word.replace('_', ' ') for word in head)} |", "| --- " * 5 + "|", *rows]),
        ]
    else:
        sections.append("`ddr_tf.evaluate` had not been run before the export.")
    sections += ["## Settings", f"```\n{card['config'].strip()}\n```"]
    return "\n\n".join(sections) + "\n"


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def _table(rows: Mapping[str, Any]) -> str:
    cells = {name: f"{value:.5g}" if isinstance(value, float) else str(value) for name, value in rows.items()}
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in cells.items())])


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
