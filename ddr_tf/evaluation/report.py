"""What `evaluate` prints: is the model good, at what, against which chance and ceiling; then metrics in groups."""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ddr_tf.evaluation.metric import Metric
from ddr_tf.evaluation.summary import OTHER_NUM_FRAMES, metrics_table
from ddr_tf.tables import markdown_table


class Question(NamedTuple):
    """A line of the summary.

    Attributes:
      text: What is asked.
      patterns: Metrics that answer it, as in shells; of the first pattern that there is, the worst.
      unit: Of the value.
      lower_is_better: Whether the best value is the chance level, as of leakage.
      ceiling: A metric that is the ceiling, where the answer has none of its own.
    """

    text: str
    patterns: tuple[str, ...]
    unit: str = ""
    lower_is_better: bool = False
    ceiling: str | None = None


QUESTIONS = (
    Question("Are frames reconstructed?", ("reconstruction_psnr",), unit="dB"),
    Question("Are swaps the true frames?", ("swap_psnr",), unit="dB", ceiling="reconstruction_psnr"),
    Question("Do swaps show A?", ("swap_identity_accuracy", "swap_recognised_accuracy")),
    Question("Do swaps show the pose of B?", ("swap_pose_accuracy", "swap_landmark_accuracy")),
    Question("Is f the same from other frames?", ("static_consistency",)),
    Question("Is z the same for all identities?", ("dynamic_coherence",)),
    Question("Does z tell who it is?", ("leakage_dynamic_to_*",), lower_is_better=True),
    Question("Does the prior of z show all poses?", ("prior_pose_coverage",)),
)
# The word for a value that has come this far from chance to ceiling.
GRADES = ((0.9, "very good"), (0.7, "good"), (0.4, "fair"), (-math.inf, "poor"))
MIN_GAIN = 0.1  # dB of reconstructions above their chance level, without which z changes nothing


class Group(NamedTuple):
    """Metrics that belong together: patterns of all of them, and of those that are printed without `--all`."""

    name: str
    patterns: tuple[str, ...]
    headlines: tuple[str, ...]


GROUPS = (
    Group(
        "Bound",
        ("elbo_*", "bits_per_dim*", "importance_weighted_*", "reconstruction_excess_*", "kl_*"),
        ("elbo_*", "importance_weighted_bound_*", "reconstruction_excess_*", "kl_*"),
    ),
    Group(
        "Reconstructions and swaps",
        ("reconstruction_[ps]*", "swap_*", "*_recognised_accuracy*", "*_landmark_*", "*_face_*"),
        (
            *("reconstruction_psnr", "swap_psnr", "swap_relative_psnr", "swap_conditioned_psnr"),
            *("swap_identity_accuracy", "swap_pose_accuracy"),
            *("swap_conditioned_identity_accuracy", "swap_conditioned_pose_accuracy"),
            *("swap_neighbours_*", "*_recognised_accuracy", "*_landmark_accuracy"),
        ),
    ),
    Group(
        "Codes",
        ("static_*", "dynamic_*", "order_dependence*", "active_units_*", "probe_*", "leakage_*", "dci_*", "mig*"),
        (
            *("static_consistency", "dynamic_coherence", "active_units_*", "probe_static_to_*", "leakage_static_to_*"),
            *("probe_dynamic_to_*", "leakage_dynamic_to_*", "dci_*", "mig"),
        ),
    ),
    Group("Prior and samples", ("prior_*", "sample_*"), ("prior_*", "sample_*")),
    Group("Frame classifier", ("judge_*",), ("judge_*_accuracy",)),
    Group(
        "Cost",
        ("parameters", "training_*"),
        ("parameters", "training_*"),
    ),
)


def report(metrics: Mapping[str, Metric], remarks: Sequence[str] | None = None, everything: bool = False) -> str:
    """The summary, what is conspicuous, and metrics in groups, as Markdown.

    Args:
      metrics: Name -> metric.
      remarks: Lines of `checklist.conspicuous`; None: nobody has looked.
      everything: Whether to print all metrics, those of other numbers of frames among them.
    """
    plain, suffix = _without_suffix(metrics)
    sections = [f"Metrics are those that end with {suffix}.\n"] if suffix else []
    sections.append(summary_table(plain))
    if remarks:
        sections.append("Conspicuous:\n" + "".join(f"- {remark}\n" for remark in remarks))
    elif remarks is not None:
        sections.append("Nothing is conspicuous.\n")
    sections += [f"{name}\n\n{table}" for name, table in _group_tables(metrics if everything else plain, everything)]
    return "\n".join(sections)


def _without_suffix(metrics: Mapping[str, Metric]) -> tuple[Mapping[str, Metric], str]:
    """Metrics by plain names: if there are none of `STANDARD_NUM_FRAMES`, those of the next number, and its suffix."""
    if any(_answer(question, metrics) for question in QUESTIONS):
        return metrics, ""
    suffix = next((found[0] for found in map(OTHER_NUM_FRAMES.search, metrics) if found), "")
    return {name.removesuffix(suffix): metric for name, metric in metrics.items()}, suffix


def summary_table(metrics: Mapping[str, Metric]) -> str:
    """A line for each of `QUESTIONS` that there is an answer to."""
    rows = [["", "metric", "value", "chance", "ceiling", ""]]
    for question in QUESTIONS:
        name = _answer(question, metrics)
        if name is not None:
            rows.append(_line(question, name, metrics))
    return markdown_table(rows)


def _answer(question: Question, metrics: Mapping[str, Metric]) -> str | None:
    """The metric that answers a question."""
    for pattern in question.patterns:
        names = [name for name in fnmatch.filter(metrics, pattern) if not OTHER_NUM_FRAMES.search(name)]
        if names:
            worst = max if question.lower_is_better else min
            return worst(names, key=lambda name: metrics[name].value)
    return None


def _line(question: Question, name: str, metrics: Mapping[str, Metric]) -> list[str]:
    metric = metrics[name]
    ceiling = metrics[question.ceiling].value if question.ceiling in metrics else metric.ceiling
    best, worst = (metric.chance, ceiling) if question.lower_is_better else (ceiling, metric.chance)
    digits = 1 if question.unit else 2
    cells = ["" if value is None else f"{value:,.{digits}f}" for value in (metric.value, metric.chance, ceiling)]
    cells[0] += f" {question.unit}" if question.unit else ""
    reconstruction = metrics.get("reconstruction_psnr")
    has_chance = reconstruction is not None and reconstruction.chance is not None
    gain = reconstruction.value - reconstruction.chance if has_chance else math.inf
    if question.unit and gain < MIN_GAIN:  # frames and swaps are the same whatever z is
        return [question.text, name, *cells, GRADES[-1][1]]
    if None in (best, worst):
        return [question.text, name, *cells, ""]
    useless = not question.lower_is_better and metric.value <= worst  # where even the ceiling is no better than chance
    return [question.text, name, *cells, GRADES[-1][1] if useless else _grade(metric.value, worst, best)]


def _grade(value: float, worst: float, best: float) -> str:
    part = (value - worst) / (best - worst) if best != worst else 1.0
    return next(grade for least, grade in GRADES if part >= least)


def _group_tables(metrics: Mapping[str, Metric], everything: bool) -> list[tuple[str, str]]:
    """Name and table of each group that has metrics; what no group has comes last."""
    left, tables = dict(metrics), []
    for group in GROUPS:
        names = [name for name in left if any(fnmatch.fnmatch(name, pattern) for pattern in group.patterns)]
        members = {name: left.pop(name) for name in names}
        patterns = ("*", "*_with_*") if everything else group.headlines
        table = metrics_table({"": members}, patterns)
        if len(table.splitlines()) > 2:
            tables.append((group.name, table))
    if left:
        tables.append(("Others", metrics_table({"": left})))
    return tables
