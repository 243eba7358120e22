"""Command line: figures of several runs side by side."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ddr_tf import cli, evaluate
from ddr_tf.errors import UserError

HEADLINES = (
    *("elbo_nats_per_frame", "importance_weighted_bound_nats_per_frame", "reconstruction_excess_nats_per_frame"),
    *("kl_static_nats_per_frame", "kl_dynamic_nats_per_frame", "reconstruction_psnr", "reconstruction_ssim"),
    *("swap_psnr", "swap_relative_psnr", "swap_conditioned_psnr", "swap_ssim"),
    *("swap_identity_accuracy", "swap_pose_accuracy", "swap_relative_identity_accuracy", "swap_relative_pose_accuracy"),
    *("swap_recognised_accuracy", "static_consistency", "static_retrieval_accuracy", "dynamic_coherence"),
    *("probe_static_to_*", "leakage_static_to_pose", "probe_dynamic_to_pose", "leakage_dynamic_to_*"),
    *("prior_pose_coverage", "prior_sample_psnr", "swap_psnr_with_*_frames"),
    *("parameters", "training_minutes", "training_frames_per_second", "training_peak_memory_mb"),
)


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m ddr_tf.compare",
        description="Put the figures of several finished runs, and what they cost, side by side. A run that was not "
        "evaluated in this way since it finished is evaluated first.",
        epilog="example: python -m ddr_tf.compare runs/sprites_small runs/pooled runs/gvae --out comparison",
    )
    flags.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", help="a finished run of ddr_tf.train")
    flags.add_argument("--out", metavar="PATH", help="write PATH.md and PATH.json (which has all figures)")
    flags.add_argument(
        "--figures",
        nargs="+",
        default=HEADLINES,
        metavar="PATTERN",
        help="figures in the table, in this order, as 'swap_*' (default: the most telling)",
    )
    evaluate.add_flags(flags)
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    flags = parser().parse_args(arguments)

    def body() -> None:
        how = evaluate.check_flags(flags)
        names = [Path(run_dir).resolve().name for run_dir in flags.run_dirs]
        if len(set(names)) < len(names):
            names = flags.run_dirs
        out = Path(flags.out) if flags.out else None
        if out and not out.parent.is_dir():
            raise UserError(f"--out {out}: there is no folder {out.parent}.")
        for run_dir in map(Path, flags.run_dirs):
            if not (run_dir / "model.keras").is_file():
                raise UserError(f"{run_dir} holds no finished run (there is no model.keras in it).")
        from ddr_tf.evaluation.protocol import Settings, evaluate_run, read_figures, table

        settings = Settings(**how)
        runs = {}
        for name, run_dir in zip(names, map(Path, flags.run_dirs), strict=True):
            found = read_figures(run_dir, settings)
            print(f"{name}: {'is evaluated' if found is None else 'was evaluated before'}", file=sys.stderr)
            runs[name] = evaluate_run(run_dir, flags.data_dir, settings) if found is None else found
        text = table(runs, flags.figures)
        if out:
            figures = {name: {key: each._asdict() for key, each in found.items()} for name, found in runs.items()}
            try:
                Path(f"{out}.md").write_text(text)
                Path(f"{out}.json").write_text(json.dumps(figures, indent=2) + "\n")
            except OSError as error:
                raise UserError(f"--out {out} cannot be written ({error.strerror}).") from error
        print(text, end="")

    return cli.run(body)


if __name__ == "__main__":
    sys.exit(main())
