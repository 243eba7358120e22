"""Command line: metrics of several runs side by side."""

import argparse
import importlib.util
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddr_tf import cli, config, evaluate, files
from ddr_tf.errors import UserError

if TYPE_CHECKING:
    from ddr_tf.evaluation.metric import Metric

HEADLINES = (
    *("elbo_nats_per_frame", "importance_weighted_bound_nats_per_frame", "reconstruction_excess_nats_per_frame"),
    "pixel_stddev",
    *("kl_static_nats_per_frame", "kl_dynamic_nats_per_frame", "reconstruction_psnr", "reconstruction_ssim"),
    *("swap_psnr", "swap_relative_psnr", "swap_conditioned_psnr", "swap_ssim"),
    *("swap_identity_accuracy", "swap_pose_accuracy", "swap_relative_identity_accuracy", "swap_relative_pose_accuracy"),
    *("swap_conditioned_identity_accuracy", "swap_conditioned_pose_accuracy"),
    *("swap_neighbours_psnr", "swap_neighbours_identity_accuracy"),
    *("swap_recognised_accuracy", "static_consistency", "static_retrieval_accuracy", "dynamic_coherence"),
    *("probe_static_to_*", "leakage_static_to_pose", "probe_dynamic_to_pose", "leakage_dynamic_to_*"),
    *("dci_*", "mig"),
    *("prior_pose_coverage", "prior_sample_psnr", "sample_psnr", "sample_valid_fraction", "sample_novel_fraction"),
    "swap_psnr_with_*_frames",
    *("parameters", "training_minutes", "training_frames_per_second", "training_peak_memory_mb"),
)
SUFFIXES = ("md", "json", "png", "pdf")  # of what `--out` writes
DPI = 200  # of the learning curves


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m ddr_tf.compare",
        description="Put the metrics of several finished runs, and what they cost, side by side. A run that was not "
        "evaluated in this way since it finished is evaluated first.",
        epilog="example: python -m ddr_tf.compare runs/sprites_small runs/pooled runs/gvae --out comparison",
    )
    flags.add_argument(
        "run_dirs", nargs="+", type=config.path_flag, metavar="RUN_DIR", help="a finished run of ddr_tf.train"
    )
    flags.add_argument(
        "--out",
        type=config.path_flag,
        metavar="PATH",
        help="write PATH.md, PATH.json (which has all metrics), and the learning curves to PATH.png and PATH.pdf",
    )
    flags.add_argument(
        "--over_training_seeds",
        action="store_true",
        help="runs whose settings differ in train.seed alone become one column: the mean over runs, and its standard "
        "error from how they spread (--seeds 1 will do)",
    )
    flags.add_argument(
        "--metrics",
        "--figures",  # the former name of the flag
        nargs="+",
        metavar="PATTERN",
        help="metrics in the table, in this order, as 'swap_*' (default: the most telling)",
    )
    evaluate.add_flags(flags)
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    flags = parser().parse_args(arguments)

    def body() -> None:
        settings = evaluate.settings_of(flags, 1 if flags.over_training_seeds else 2)
        run_dirs = _named(flags.run_dirs)
        flags.out = flags.out and re.sub(rf"\.({'|'.join(SUFFIXES)})$", "", flags.out)
        _check(run_dirs.values(), flags.out)
        from ddr_tf.evaluation.summary import check_patterns, metrics_table, read_evaluation

        logs = {}
        if flags.out and importlib.util.find_spec("matplotlib") is None:
            print("without learning curves, which need matplotlib; pip install -e '.[eval]'", file=sys.stderr)
        elif flags.out:
            logs = {name: _held_out_lines(run_dir) for name, run_dir in run_dirs.items()}
        runs = {}
        for name, run_dir in run_dirs.items():
            metrics = read_evaluation(run_dir, settings)
            print(f"{name}: {'is evaluated' if metrics is None else 'was evaluated before'}", file=sys.stderr)
            if metrics is None:
                metrics, _, not_kept = evaluate.evaluate_run(run_dir, flags.data_dir, settings)
                if not_kept:
                    print(f"{name}: {not_kept}", file=sys.stderr)
            runs[name] = metrics
        check_patterns(runs, flags.metrics or ())
        groups = {name: [name] for name in run_dirs}
        if flags.over_training_seeds:
            groups = _groups(run_dirs)
            runs = _over_training_seeds(groups, runs)
        table = metrics_table(runs, flags.metrics or HEADLINES)
        if flags.out:
            _write(flags.out, table, runs)
        print(table, end="")
        curves = {name: [logs[member] for member in names if logs.get(member)] for name, names in groups.items()}
        if any(curves.values()):
            _draw(flags.out, {name: lines for name, lines in curves.items() if lines})

    return cli.run(body)


def _named(run_dirs: Sequence[str]) -> dict[str, Path]:
    """Runs by the names of their folders, or by their whole paths where two folders have the same name.

    Raises:
      UserError: If one is given twice.
    """
    twice = [path for path, count in Counter(Path(run_dir).resolve() for run_dir in run_dirs).items() if count > 1]
    if twice:
        raise UserError(f"The run {twice[0]} is given twice; compare different ones.")
    names = [Path(run_dir).resolve().name for run_dir in run_dirs]
    if len(set(names)) < len(names):
        names = run_dirs
    return dict(zip(names, map(Path, run_dirs), strict=True))


def _groups(run_dirs: Mapping[str, Path]) -> dict[str, list[str]]:
    """Runs that differ in their seed alone: a name for each group, with the number of its runs -> their names."""
    groups: dict[tuple, list[str]] = {}
    for name, run_dir in run_dirs.items():
        groups.setdefault(_all_but_seed(run_dir), []).append(name)
    return {f"{_common_name(names)} ({len(names)})": names for names in groups.values()}


def _over_training_seeds(
    groups: Mapping[str, Sequence[str]], metrics: Mapping[str, Mapping[str, "Metric"]]
) -> dict[str, dict[str, "Metric"]]:
    """Metrics of each run -> those of each group; a metric that one of a group lacks is left out."""
    from ddr_tf.evaluation.metric import Measurement, Metric

    return {
        group: {
            metric: Metric.over_seeds([Measurement(value, chance, ceiling) for value, _, chance, ceiling in of_runs])
            for metric in metrics[names[0]]
            if None not in (of_runs := [metrics[name].get(metric) for name in names])
        }
        for group, names in groups.items()
    }


def _all_but_seed(run_dir: Path) -> tuple:
    """What runs of one group have in common, wherever they were trained: data, steps and settings."""
    from ddr_tf.runs import OF_A_MACHINE, read_record

    record = read_record(run_dir)
    others = OF_A_MACHINE | {"train.seed", "DDR.noise_seed"}  # the second of runs that were started from Python
    return record["data"], record["step"], *sorted(item for item in record["settings"].items() if item[0] not in others)


def _common_name(names: Sequence[str]) -> str:
    """How the names of runs begin, such as "pooled" of "pooled-0" and "pooled-1" or of "pooled_seed0" and so on."""
    if len(names) == 1:
        return names[0]
    beginning = os.path.commonprefix(names)  # noqa: RUF071, by characters
    return re.sub("[-_. ]*(seed)?[-_. ]*$", "", beginning) or names[0]


def _check(run_dirs: Iterable[Path], out: str | None) -> None:
    """Raises UserError for what would fail only after the evaluation."""
    if out and not Path(out).parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {Path(out).parent}.")
    for suffix in SUFFIXES if out else ():
        cli.check_writable(Path(f"{out}.{suffix}"), "--out:")
    for run_dir in run_dirs:
        if not (run_dir / "model.keras").is_file():
            why = files.why_no_folder(run_dir) or "there is no model.keras in it"
            raise UserError(f"{run_dir} holds no finished run ({why}).")


def _write(out: str, table: str, runs: Mapping[str, Mapping[str, "Metric"]]) -> None:
    """Writes `<out>.md` and `<out>.json`."""
    metrics = {name: {key: metric._asdict() for key, metric in run.items()} for name, run in runs.items()}
    try:
        files.write_text(Path(f"{out}.md"), table)
        files.write_json(Path(f"{out}.json"), metrics)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror}).") from error


def _held_out_lines(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` that learning curves can be drawn from; none if there is no such file."""
    from ddr_tf.data.sequence_dataset import HELD_OUT
    from ddr_tf.pictures.plots import LEARNING_CURVES
    from ddr_tf.runs import METRICS, read_metrics

    lines = read_metrics(run_dir) if (run_dir / METRICS).exists() else []
    return [line for line in lines if line["split"] == HELD_OUT and {"minutes", *LEARNING_CURVES} <= line.keys()]


def _draw(out: str, curves: Mapping[str, Sequence[Sequence[dict[str, Any]]]]) -> None:
    """Writes `<out>.png` and `<out>.pdf`."""
    from ddr_tf.pictures import plots

    try:
        with plots.style():
            plots.save_plot(plots.draw_learning_curves(curves), Path(out), DPI)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror}).") from error


if __name__ == "__main__":
    sys.exit(main())
