"""Command line: how fast this machine trains and runs the model."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddr_tf import cli, config, files
from ddr_tf.errors import UserError


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m ddr_tf.benchmark",
        description="Measure, in one run on this machine: training of each configuration and its share of what a "
        "matrix product reaches, the parts of a step, the input alone, what other numbers of frames cost, latencies of "
        "encoding and decoding, and the time to the first step. Takes minutes; nothing else should be computing.",
        epilog="example: python -m ddr_tf.benchmark --json benchmark.json",
    )
    flags.add_argument(
        "--gin_file",
        nargs="+",
        action="extend",
        default=[],
        type=config.path_flag,
        metavar="FILE",
        help="configurations, each by itself (default: all shipped ones; then parts and latencies of two of them only)",
    )
    flags.add_argument(
        "--gin_param",
        action="append",
        default=[],
        metavar="BINDING",
        help="one setting for all of them, as 'DDR.width=32'; repeatable",
    )
    flags.add_argument(
        "--data_dir",
        type=config.path_flag,
        metavar="DIR",
        help="where datasets are (default: $DDR_TF_DATA, else ~/.cache/ddr_tf)",
    )
    flags.add_argument(
        "--max_frames",
        type=int,
        default=128,
        metavar="FRAMES",
        help="of a step; configurations with more get fewer sequences (default: %(default)s)",
    )
    flags.add_argument("--rounds", type=int, default=3, help="readings of each speed (default: %(default)s)")
    flags.add_argument("--json", type=config.path_flag, metavar="FILE", help="where to write the results as well")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    flags = parser().parse_args(arguments)

    def body() -> None:
        if flags.json:
            cli.check_writable(Path(flags.json), "--json:")
        # After the flags, so that --help and wrong flags answer at once.
        import tensorflow as tf

        from ddr_tf.benchmarking.measure import measure
        from ddr_tf.benchmarking.report import report

        tf.get_logger().setLevel("ERROR")  # it would warn that functions are compiled again and again, as they are here
        for gpu in tf.config.list_physical_devices("GPU"):
            # Otherwise no memory would be left for the process whose start is timed.
            tf.config.experimental.set_memory_growth(gpu, True)
        results = measure(flags.gin_file, flags.gin_param, flags.data_dir, flags.max_frames, flags.rounds)
        print(report(results), end="")
        if flags.json:
            write(Path(flags.json), results)

    return cli.run(body, lambda: "stopped; nothing was written")


def write(path: Path, results: dict[str, Any]) -> None:
    """Writes the results as JSON.

    Raises:
      UserError: If that is not possible.
    """
    try:
        files.write_json(path, results)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}).") from error


if __name__ == "__main__":
    sys.exit(main())
