"""Command line: metrics of a trained run, or of an exported model, on held-out sequences."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ddr_tf import cli, config
from ddr_tf.errors import UserError

if TYPE_CHECKING:
    from ddr_tf.evaluation.metric import Metric
    from ddr_tf.evaluation.settings import Settings


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Adds the flags that say how to evaluate."""
    flags.add_argument(
        "--data_dir", type=config.path_flag, metavar="DIR", help="where datasets are (default: where the run had them)"
    )
    flags.add_argument("--seeds", type=int, default=3, help="evaluation seeds, 0 to SEEDS - 1 (default: 3)")
    flags.add_argument(
        "--num_frames",
        type=int,
        nargs="+",
        metavar="N",
        help="frames that a static code is computed from; several, as 8 2 4 16, to see what more frames give (default: "
        "8, and 4 or 2 where sequences are too short for all metrics with 8)",
    )
    flags.add_argument("--faces", action="store_true", help="frames show faces: compare their landmarks, too")


def settings_of(flags: argparse.Namespace, least_seeds: int = 2) -> "Settings":
    """The settings that the flags ask for.

    Args:
      flags: Those of `add_flags`.
      least_seeds: How many evaluation seeds there must be.

    Raises:
      UserError: For numbers that are not possible.
    """
    if flags.seeds < least_seeds:
        why = " (the standard error needs them)" if least_seeds > 1 else ""
        raise UserError(f"--seeds must be at least {least_seeds}{why}, got {flags.seeds}.")
    if flags.num_frames and min(flags.num_frames) < 1:
        raise UserError(f"--num_frames must be at least 1, got {min(flags.num_frames)}.")
    from ddr_tf.evaluation.settings import Settings

    return Settings(num_seeds=flags.seeds, frame_counts=flags.num_frames and tuple(flags.num_frames), faces=flags.faces)


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m ddr_tf.evaluate",
        description="Measure a finished run, or an exported model, on held-out sequences: the bound, reconstructions, "
        "swaps, what the codes hold and what they leak. Prints a summary, and what to change; writes evaluation.json "
        "into the run (and shows it in TensorBoard) or into assets.extra of the exported model.",
    )
    cli.add_model_flags(flags)
    flags.add_argument("--all", action="store_true", help="print all metrics")
    add_flags(flags)
    return flags


class Evaluation(NamedTuple):
    """What an evaluation gives.

    Attributes:
      metrics: By name.
      remarks: What is conspicuous, see `checklist`.
      not_kept: Why the metrics could not be written; None: they are.
    """

    metrics: dict[str, "Metric"]
    remarks: list[str]
    not_kept: str | None = None


def _why_not_kept(folder: Path) -> str | None:
    """Why metrics cannot be kept in a folder, which is said before minutes have passed; None: they can."""
    if os.access(folder, os.W_OK):
        return None
    print(f"{folder} cannot be written, so the metrics will only be printed.", file=sys.stderr)
    return f"The metrics are printed above, but not kept: {folder} cannot be written."


def evaluate_run(run_dir: Path, data_dir: str | None, settings: "Settings") -> Evaluation:
    """Evaluates a finished run, and says what it cost.

    Kept in its `evaluation.json`, with the settings beside it, and shown in TensorBoard.

    Args:
      run_dir: Folder of the run.
      data_dir: As of `runs.load_run`.
      settings: What is measured.

    Raises:
      UserError: As `runs.load_run`, `runs.cost` and `summary.logs_folder`.
    """
    import tensorflow as tf

    from ddr_tf import runs
    from ddr_tf.evaluation import checklist, protocol, summary
    from ddr_tf.evaluation.metric import Metric

    model, sequences = runs.load_run(run_dir, data_dir)
    not_kept = _why_not_kept(run_dir)
    logs = None if not_kept else summary.logs_folder(run_dir)
    cost = {name: Metric(value) for name, value in runs.cost(run_dir, model).items()}
    metrics = protocol.evaluate(model, sequences, settings, progress=True) | cost
    if not not_kept:
        try:
            summary.write_evaluation(run_dir, metrics, settings)
            step = runs.read_record(run_dir)["step"]
            with tf.summary.create_file_writer(str(logs)).as_default(step=step):
                for name, metric in metrics.items():
                    tf.summary.scalar(f"evaluation/{name}", metric.value)
                tf.summary.text("evaluation", summary.metrics_table({"": metrics}))
        except UserError as error:
            not_kept = str(error)
    return Evaluation(metrics, checklist.conspicuous(metrics, sequences, runs.read_metrics(run_dir)), not_kept)


def evaluate_exported(saved_model: Path, data_dir: str | None, settings: "Settings") -> Evaluation:
    """Evaluates an exported model by its signatures, on the dataset of its run; kept in its `assets.extra`.

    Args:
      saved_model: As of `exported_model.open_exported`.
      data_dir: As of `runs.load_sequences`.
      settings: What is measured.

    Raises:
      UserError: As `exported_model.open_exported`.
    """
    from ddr_tf.evaluation import checklist, protocol, summary
    from ddr_tf.serving.exported_model import open_exported

    model, sequences = open_exported(saved_model, data_dir)
    not_kept = _why_not_kept(model.extra)
    metrics = protocol.evaluate(model, sequences, settings, progress=True)
    if not not_kept:
        try:
            summary.write_evaluation(model.extra, metrics, settings)
        except UserError as error:
            not_kept = str(error)
    return Evaluation(metrics, checklist.conspicuous(metrics, sequences), not_kept)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    flags = parser().parse_args(arguments)

    def body() -> None:
        settings = settings_of(flags)
        from ddr_tf.evaluation.report import report

        if flags.run_dir:
            evaluation = evaluate_run(Path(flags.run_dir), flags.data_dir, settings)
        else:
            evaluation = evaluate_exported(Path(flags.saved_model), flags.data_dir, settings)
        print(report(evaluation.metrics, evaluation.remarks, flags.all))
        if evaluation.not_kept:
            raise UserError(evaluation.not_kept)
        printed = "all of them are printed" if flags.all else "--all prints them all"
        print(f"{len(evaluation.metrics)} metrics are in evaluation.json; {printed}, docs/evaluation.md explains each.")

    return cli.run(body)


if __name__ == "__main__":
    sys.exit(main())
