"""Command line: a trained run as a SavedModel, or as ONNX files."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ddr_tf import cli, config
from ddr_tf.errors import UserError


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m ddr_tf.export",
        description="Write a finished run as the next version of an exported model, whole or not at all.",
        epilog="example: python -m ddr_tf.export --run_dir runs/quickstart --out saved_models/mine",
    )
    flags.add_argument(
        "--run_dir", required=True, type=config.path_flag, metavar="DIR", help="a finished run of ddr_tf.train"
    )
    flags.add_argument(
        "--out",
        required=True,
        type=config.path_flag,
        metavar="DIR",
        help="saved_models/NAME; versions 1, 2, ... go into it",
    )
    _add_choices(flags)
    return flags


def _add_choices(flags: argparse.ArgumentParser) -> None:
    """Adds the flags that say what is written, all of which have defaults."""
    flags.add_argument(
        "--format",
        choices=("saved_model", "onnx"),
        default="saved_model",
        help="onnx: encode.onnx and decode.onnx, straight into --out (default: saved_model)",
    )
    flags.add_argument(
        "--weights",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="how weights are kept; float16: half the size; int8: a quarter, and pictures change a little "
        "(default: float32)",
    )
    flags.add_argument(
        "--examples",
        choices=("auto", "yes", "no"),
        default="auto",
        help="frames of two held-out sequences, on which the explorer opens; auto: if the licence of the data lets "
        "everybody pass them on (default: auto)",
    )
    flags.add_argument(
        "--data_dir",
        type=config.path_flag,
        metavar="DIR",
        help="where the data of those frames are (default: where the run had them)",
    )
    flags.add_argument(
        "--keep_keras", action="store_true", help="keep model.keras in the export, so that it can be trained further"
    )
    flags.add_argument(
        "--checkpoint",
        choices=("best", "last"),
        default="best",
        help="the step whose held-out ELBO was best, or the last (default: best)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    flags = parser().parse_args(arguments)

    def body() -> None:
        if flags.format == "onnx" and flags.weights != "float32":
            raise UserError(f"--weights {flags.weights} is for --format saved_model only.")
        from ddr_tf.serving import exporting, onnx

        run_dir, out = Path(flags.run_dir), Path(flags.out)
        if flags.format == "onnx":
            print(f"written: {onnx.export(run_dir, out, flags.checkpoint)}")
            return
        examples = {"auto": None, "yes": True, "no": False}[flags.examples]
        choices = (flags.weights, examples, flags.keep_keras, print, flags.checkpoint, flags.data_dir)
        written = exporting.export(run_dir, out, *choices)
        print(f"written: {written}")

    return cli.run(body, lambda: "stopped; nothing was written")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that nothing is left behind
    sys.exit(main())
