"""The card of an exported model: what it is, what it was trained on, how good it is, what it is for."""

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import ddr_tf
from ddr_tf import files
from ddr_tf.data.sequence_dataset import HELD_OUT
from ddr_tf.errors import UserError
from ddr_tf.evaluation import summary
from ddr_tf.model.ddr import DDR
from ddr_tf.runs import BEST, CONFIG, DATASET, RECIPE, read_dataset, read_metrics, read_record
from ddr_tf.tables import markdown_table

INTENDED_USE = (
    "Research and experiments with codes of what stays and what changes in frames like those that the model was "
    "trained on, within the licence of the data. Not for identifying people, judging their state of mind, or making "
    "pictures of them that others could take for real."
)
NOT_STATED = "not stated"
MAX_CONFIG_BYTES = 10_000_000
NOT_COMPARABLE = "its bounds are not comparable with those under a Bernoulli"


def model_card(model: DDR, run_dir: Path, name: str, weights: str, checkpoint: str = BEST) -> dict[str, Any]:
    """The card as an object for JSON.

    Args:
      model: The final model of the run.
      run_dir: Folder of a finished run; its `evaluation.json` is used if it is there, and of this model.
      name: Of the exported model.
      weights: dtype in which they are kept.
      checkpoint: See `runs.load_model`; only the model of the best is what `evaluation.json` is about.

    Raises:
      UserError: If a file of the run cannot be read.
    """
    record = read_record(run_dir)
    evaluation = summary.read_evaluation(run_dir)
    dataset = {"licence": None, "splits": None} | _described_dataset(run_dir, record)
    height, width, channels = model.frame_shape
    best_step = record.get("best_step") or record["step"]  # early versions have kept the last alone
    step = best_step if checkpoint == BEST else record["step"]
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
            "pixel_likelihood": model.architecture.pixel_likelihood,
            "pixel_stddev": None if model.pixel_stddev is None else float(model.pixel_stddev),
            "parameters": model.count_params(),
            "weights": weights,
        },
        "training": {key: record[key] for key in ("seed", "training_minutes", "versions")}
        | {"step": step, "steps": record["step"]},
        "exported_with": {
            "ddr_tf": ddr_tf.__version__,
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in ("tensorflow", "keras")},
        },
        "held_out": _held_out_at(step, run_dir),
        "evaluation": {name: metric._asdict() for name, metric in evaluation.items()}
        if evaluation and step == best_step
        else None,
        "config": _read_config(run_dir / CONFIG),
    }


def _described_dataset(run_dir: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """The description of the dataset, without the paths of the machine that trained on it."""
    if not (run_dir / DATASET).exists():  # runs of earlier versions have none
        return {"name": str(record["settings"].get("train.sequences")).strip("@")}
    return {key: value for key, value in read_dataset(run_dir).items() if key != RECIPE}


def _read_config(path: Path) -> str:
    try:
        return files.read_limited(path, MAX_CONFIG_BYTES).decode()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); it belongs to a run, bring it back from a copy.") from error


def _held_out_at(step: int, run_dir: Path) -> dict[str, Any] | None:
    """The held-out metrics of a step, as training wrote them."""
    lines = (line for line in read_metrics(run_dir) if line["split"] == HELD_OUT and line["step"] == step)
    return next(lines, None)


def write_card(card: Mapping[str, Any], folder: Path) -> None:
    """Writes `model_card.json` and `model_card.md`.

    Raises:
      OSError: If that is not possible.
    """
    files.write_json(folder / "model_card.json", card)
    files.write_text(folder / "model_card.md", markdown(card))


def markdown(card: Mapping[str, Any]) -> str:
    """The card to be read by people."""
    sections = [
        f"# {card['name']}",
        card["intended_use"],
        "## Data",
        _table(_data_rows(card["dataset"])),
        "## Model",
        _table(_model_rows(card)),
        "## Metrics of held-out sequences",
    ]
    if card["held_out"]:
        metrics = {key: value for key, value in card["held_out"].items() if isinstance(value, float | int)}
        sections += ["While training, nats a frame; one sample of f and z.", _table(metrics)]
    if card["evaluation"]:
        sections += [
            "By `ddr_tf.evaluate`, of the run's float32 weights; mean over evaluation seeds.",
            _evaluation_table(card["evaluation"]),
        ]
    else:
        sections.append("`ddr_tf.evaluate` had not measured this model before the export.")
    sections += ["## Settings", f"```\n{card['config'].strip()}\n```"]
    return "\n\n".join(section.rstrip() for section in sections) + "\n"


def _data_rows(dataset: Mapping[str, Any]) -> dict[str, Any]:
    splits = (dataset["splits"] or {}).items()
    counts = [f"{split}: {n['sequences']:,} sequences, {n['frames']:,} frames" for split, n in splits]
    return {
        "dataset": dataset["name"],
        "split": "; ".join(counts) or NOT_STATED,
        "fingerprint of sequences and split": dataset["fingerprint"],
        "licence": dataset["licence"],
    }


def _model_rows(card: Mapping[str, Any]) -> dict[str, Any]:
    model, training = card["model"], card["training"]
    return {
        "frames": f"{model['height']} x {model['width']}, {model['channels']} channels",
        "static code f, dynamic code z": f"{model['static_dim']} and {model['dynamic_dim']} dimensions",
        "p(x given f, z)": _likelihood(model["pixel_stddev"]),
        "parameters": f"{model['parameters']:,}, kept as {model['weights']}",
        "trained": _trained(training["step"], training["steps"], training["training_minutes"]),
        "seed": training["seed"],
        "with": _versions(training["versions"]),
        "exported with": _versions(card["exported_with"]),
    }


def _trained(step: int, steps: int, minutes: float) -> str:
    """In words: which step of how many it is; `minutes` are of all."""
    of_run = f"{steps:,} steps, {minutes} minutes"
    return of_run if steps == step else f"the model after {step:,} steps of a run of {of_run}"


def _likelihood(stddev: float | None) -> str:
    """In words; `stddev` is that of a normal, None of a Bernoulli."""
    return "Bernoulli" if stddev is None else f"normal, stddev {stddev:.3g}; {NOT_COMPARABLE}"


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _table(rows: Mapping[str, Any]) -> str:
    cells = [(name, f"{value:.5g}" if isinstance(value, float) else str(value)) for name, value in rows.items()]
    return markdown_table([("", ""), *cells])


def _evaluation_table(evaluation: Mapping[str, Mapping[str, float | None]]) -> str:
    """One row a metric, but for those of other numbers of frames, which are in the JSON only."""
    columns = ("value", "standard_error", "chance", "ceiling")
    rows = [
        (name, *("" if metric[column] is None else f"{metric[column]:.4g}" for column in columns))
        for name, metric in evaluation.items()
        if "_with_" not in name
    ]
    return markdown_table([("", *(column.replace("_", " ") for column in columns)), *rows])
