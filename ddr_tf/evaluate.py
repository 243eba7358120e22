"""Command line: figures of a trained run on held-out sequences."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddr_tf import cli
from ddr_tf.errors import UserError

FRAME_COUNTS = (8, 2, 4, 16)


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Adds the flags that say how to evaluate."""
    flags.add_argument("--data_dir", metavar="DIR", help="where datasets are (default: where the run had them)")
    flags.add_argument("--seeds", type=int, default=3, help="evaluation seeds, 0 to SEEDS - 1 (default: 3)")
    flags.add_argument(
        "--num_frames",
        type=int,
        nargs="+",
        default=FRAME_COUNTS,
        metavar="N",
        help="frames that a static code is computed from; several, to see what more frames give (default: "
        f"{' '.join(map(str, FRAME_COUNTS))})",
    )
    flags.add_argument("--faces", action="store_true", help="frames show faces: compare their landmarks, too")


def check_flags(flags: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `evaluation.Settings`.

    Raises:
      UserError: For numbers that are not possible.
    """
    if flags.seeds < 2:
        raise UserError(f"--seeds must be at least 2 (the standard error needs them), got {flags.seeds}.")
    if min(flags.num_frames) < 1:
        raise UserError(f"--num_frames must be at least 1, got {min(flags.num_frames)}.")
    return dict(num_seeds=flags.seeds, frame_counts=tuple(flags.num_frames), faces=flags.faces)


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m ddr_tf.evaluate",
        description="Measure a finished run, or an exported model, on held-out sequences: the bound, reconstructions, "
        "swaps, what the codes hold and what they leak. Prints a table, writes evaluation.json into the run (and shows "
        "it in TensorBoard) or into assets.extra of the exported model.",
    )
    what = flags.add_mutually_exclusive_group(required=True)
    what.add_argument("--run_dir", metavar="DIR", help="a finished run of ddr_tf.train")
    what.add_argument(
        "--saved_model", metavar="DIR", help="an exported model: saved_models/NAME, or one of its versions"
    )
    add_flags(flags)
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    flags = parser().parse_args(arguments)

    def body() -> None:
        settings = check_flags(flags)
        from ddr_tf.evaluation.protocol import Settings, evaluate_exported, evaluate_run, table

        if flags.run_dir:
            found = evaluate_run(Path(flags.run_dir), flags.data_dir, Settings(**settings))
        else:
            found = evaluate_exported(Path(flags.saved_model), flags.data_dir, Settings(**settings))
        print(table({"": found}), end="")

    return cli.run(body)


if __name__ == "__main__":
    sys.exit(main())
