"""Metrics of a model as files, and as a table."""

import dataclasses
import difflib
import fnmatch
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ddr_tf
from ddr_tf import files, runs
from ddr_tf.errors import UserError
from ddr_tf.evaluation.metric import Metric
from ddr_tf.evaluation.settings import Settings
from ddr_tf.tables import markdown_table

OTHER_NUM_FRAMES = re.compile(r"_with_\d+_frames$")  # ends the names of metrics of other numbers of frames


def write_evaluation(directory: Path, metrics: Mapping[str, Metric], settings: Settings) -> None:
    """Writes `evaluation.json`, name -> `value`, `standard_error`, `chance`, `ceiling`, and `evaluation_settings.json`.

    Raises:
      UserError: If they cannot be written.
    """
    contents = {
        runs.EVALUATION: {name: metric._asdict() for name, metric in metrics.items()},
        runs.EVALUATION_SETTINGS: _described(settings, directory),
    }
    for name, content in contents.items():
        try:
            files.write_json(directory / name, content)
        except OSError as error:
            raise UserError(f"{directory / name} cannot be written ({error.strerror}).") from error


def logs_folder(run_dir: Path) -> Path:
    """Where TensorBoard finds metrics; made, so that what would keep it from being written is known in time.

    Raises:
      UserError: If it cannot be made.
    """
    folder = run_dir / runs.LOGS / "evaluation"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}).") from error
    return folder


def read_evaluation(run_dir: Path, settings: Settings | None = None) -> dict[str, Metric] | None:
    """What `write_evaluation` wrote; None if that was of another model, or not with these settings (None: any).

    Raises:
      UserError: If the files are something else.
    """
    path = run_dir / runs.EVALUATION
    try:
        known = files.read_json(run_dir / runs.EVALUATION_SETTINGS)
    except (OSError, ValueError):
        known = {}
    if settings:
        is_wanted = known == _described(settings, run_dir)
    else:
        is_wanted = isinstance(known, dict) and known.get("model") == _digest_of_model(run_dir)
    return read_metrics(path) if path.is_file() and is_wanted else None


def _digest_of_model(directory: Path) -> str | None:
    """What tells the model of a run from others; None for an exported model, which does not change."""
    path = directory / runs.MODEL
    return runs.digest(path) if path.is_file() else None


def read_metrics(path: Path) -> dict[str, Metric]:
    """The metrics in an `evaluation.json`.

    Raises:
      UserError: If it is something else.
    """
    try:
        metrics = {name: Metric(**metric) for name, metric in files.read_json(path).items()}
        for name, metric in metrics.items():
            if not all(isinstance(number, (int, float)) for number in (metric.value, *filter(_is_given, metric[1:]))):
                raise ValueError(f"{name} is not of numbers")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it, and evaluate again.") from error
    return metrics


def _is_given(number: float | None) -> bool:
    return number is not None


def _described(settings: Settings, directory: Path) -> dict[str, Any]:
    """The settings, this version, and which model was evaluated, as JSON holds them."""
    of_this = {"version": ddr_tf.__version__, "model": _digest_of_model(directory)}
    return json.loads(json.dumps(dataclasses.asdict(settings) | of_this))


def metrics_table(runs: Mapping[str, Mapping[str, Metric]], patterns: Sequence[str] = ("*", "*_with_*")) -> str:
    """Metrics of one or more runs in Markdown, a metric a line: value ± standard error, chance and ceiling.

    Args:
      runs: Name of a run -> its metrics.
      patterns: Which metrics, in this order, as in shells ("swap_*"); those of other numbers of frames only by
        patterns that have "_with_", too.
    """
    rows = [["metric", *(name or "value" for name in runs), "chance", "ceiling"]]
    for name in _matching(dict.fromkeys(name for metrics in runs.values() for name in metrics), patterns):
        metrics = [run.get(name) for run in runs.values()]
        levels = [_range([getattr(metric, level) for metric in metrics if metric]) for level in ("chance", "ceiling")]
        rows.append([name, *map(_value, metrics), *levels])
    return markdown_table(rows) + _note_of_bounds(runs)


def _note_of_bounds(runs: Mapping[str, Mapping[str, Metric]]) -> str:
    """A line that says which bounds may be compared; empty where all are of the paper's Bernoulli."""
    normal = [name for name, metrics in runs.items() if "pixel_stddev" in metrics]
    if not normal:
        return ""
    of_these = f" of {', '.join(normal)}" if len(runs) > 1 else ""
    return (
        f"\nThe p(x | f, z){of_these} is normal. Bounds, excess and bits_per_dim under it are not comparable with "
        "those under a Bernoulli.\n"
    )


def check_patterns(runs: Mapping[str, Mapping[str, Metric]], patterns: Sequence[str]) -> None:
    """Raises UserError if a pattern, as of `metrics_table`, matches no metric, with the nearest."""
    names = dict.fromkeys(name for metrics in runs.values() for name in metrics)
    for pattern in patterns:
        if not _matching(names, [pattern]):
            nearest = difflib.get_close_matches(pattern, names, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}?" if nearest else "evaluation.json of a run has all of them."
            raise UserError(f"--metrics: no metric matches {pattern!r}; {hint}")


def _matching(names: Mapping[str, None], patterns: Sequence[str]) -> Mapping[str, None]:
    return dict.fromkeys(
        name
        for pattern in patterns
        for name in fnmatch.filter(names, pattern)
        if "_with_" in pattern or not OTHER_NUM_FRAMES.search(name)
    )


def _value(metric: Metric | None) -> str:
    """A value and its standard error, with as many digits as its size asks for."""
    if metric is None:
        return ""
    digits = 0 if abs(metric.value) >= 10_000 else 1 if abs(metric.value) >= 100 else 3
    counted = not digits and not metric.standard_error  # as parameters, which do not differ between seeds
    error = "" if metric.standard_error is None or counted else f" ± {metric.standard_error:,.{digits}f}"
    return f"{metric.value:,.{digits}f}{error}"


def _range(levels: Sequence[float | None]) -> str:
    """Levels of several runs, from the lowest to the highest; empty if a run has none."""
    ends = [] if None in levels else [f"{min(levels):,.3f}", f"{max(levels):,.3f}"]
    return " to ".join(dict.fromkeys(ends))
