"""Command line: pictures of a trained model, for papers."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddr_tf import cli, config
from ddr_tf.errors import UserError

if TYPE_CHECKING:
    from ddr_tf.pictures.selection import Selection


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m ddr_tf.visualize",
        description="Draw pictures of a finished run, or of an exported model, on held-out sequences: PNG and PDF, "
        "some animated, with captions.",
    )
    cli.add_model_flags(flags)
    flags.add_argument(
        "--out",
        type=config.path_flag,
        metavar="DIR",
        help="where the pictures go (default: figures in the folder of the run; there is none for an exported model)",
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

    def body() -> None:
        if not 50 <= flags.dpi <= 1200:
            raise UserError(f"--dpi must be 50 to 1200, got {flags.dpi}.")
        if importlib.util.find_spec("matplotlib") is None:
            raise UserError("Plots need matplotlib; pip install -e '.[eval]'.")
        if not (flags.run_dir or flags.out):
            raise UserError("--out must say where the pictures of an exported model go.")
        out = Path(flags.out or Path(flags.run_dir) / "figures")
        cli.check_folder(out, "--out")
        from ddr_tf.pictures import gallery

        gallery.write_all(_selection(flags), out, flags.dpi, progress=lambda line: print(line, flush=True))

    return cli.run(body)


def _selection(flags: argparse.Namespace) -> "Selection":
    """What the pictures are drawn from. An exported model has no metrics of its training."""
    from ddr_tf import runs
    from ddr_tf.pictures.selection import Selection
    from ddr_tf.serving.exported_model import open_exported

    if not flags.run_dir:
        model, sequences = open_exported(Path(flags.saved_model), flags.data_dir)
        return Selection(model, sequences, None, flags.seed)
    run_dir = Path(flags.run_dir)
    model, sequences = runs.load_run(run_dir, flags.data_dir)
    return Selection(model, sequences, runs.read_metrics(run_dir), flags.seed)


if __name__ == "__main__":
    sys.exit(main())
