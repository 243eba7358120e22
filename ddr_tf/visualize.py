"""Command line: pictures of a trained run, for papers."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from ddr_tf import cli, config
from ddr_tf.errors import UserError


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m ddr_tf.visualize",
        description="Draw pictures of a finished run on held-out sequences: PNG and PDF, some animated, with captions.",
    )
    flags.add_argument(
        "--run_dir", required=True, type=config.path_flag, metavar="DIR", help="a finished run of ddr_tf.train"
    )
    flags.add_argument(
        "--out",
        type=config.path_flag,
        metavar="DIR",
        help="where the pictures go (default: figures in the run's folder)",
    )
    flags.add_argument(
        "--data_dir", type=config.path_flag, metavar="DIR", help="where datasets are (default: where the run had them)"
    )
    flags.add_argument("--seed", type=int, default=0, help="draws the sequences and frames that are shown (default: 0)")
    flags.add_argument("--dpi", type=int, default=300, help="of the PNGs, dots an inch, 50 to 1200 (default: 300)")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    flags = parser().parse_args(arguments)
    run_dir = Path(flags.run_dir)
    out = Path(flags.out) if flags.out else run_dir / "figures"

    def body() -> None:
        if not 50 <= flags.dpi <= 1200:
            raise UserError(f"--dpi must be 50 to 1200, got {flags.dpi}.")
        if importlib.util.find_spec("matplotlib") is None:
            raise UserError("Plots need matplotlib; pip install -e '.[eval]'.")
        from ddr_tf import runs
        from ddr_tf.pictures import gallery
        from ddr_tf.pictures.selection import Selection

        cli.check_folder(out, "--out")
        model, sequences = runs.load_run(run_dir, flags.data_dir)
        selection = Selection(model, sequences, runs.read_metrics(run_dir), flags.seed)
        gallery.write_all(selection, out, flags.dpi, progress=lambda line: print(line, flush=True))

    return cli.run(body)


if __name__ == "__main__":
    sys.exit(main())
