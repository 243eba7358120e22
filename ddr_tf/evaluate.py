"""Command line: figures of a trained run on held-out sequences."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ddr_tf import commands
from ddr_tf.errors import UserError


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m ddr_tf.evaluate",
        description="Measure a finished run on held-out sequences: reconstructions, and swaps where true frames exist.",
    )
    flags.add_argument("--run_dir", required=True, metavar="DIR", help="a finished run of ddr_tf.train")
    flags.add_argument("--data_dir", metavar="DIR", help="where datasets are (default: where the run had them)")
    flags.add_argument("--seeds", type=int, default=3, help="evaluation seeds, 0 to SEEDS - 1 (default: 3)")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    flags = parser().parse_args(arguments)
    run_dir = Path(flags.run_dir)

    def body() -> None:
        if flags.seeds < 2:
            raise UserError(f"--seeds must be at least 2 (the standard error needs them), got {flags.seeds}.")
        from ddr_tf.evaluation import evaluate
        from ddr_tf.training import load_run

        model, sequences = load_run(run_dir, flags.data_dir)
        found = evaluate(model, sequences, range(flags.seeds), progress=lambda line: print(line, file=sys.stderr))
        figures = {name: figure._asdict() for name, figure in found.items()}
        (run_dir / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
        print(f"{'figure':36}{'value':>9}{'s.e.':>9}{'chance':>9}{'ceiling':>9}")
        for name, figure in found.items():
            cells = ["" if value is None else f"{value:.3f}" for value in figure]
            print(f"{name:36}" + "".join(f"{cell:>9}" for cell in cells))

    return commands.run(body)


if __name__ == "__main__":
    sys.exit(main())
