"""Command line: trains a model, or resumes its training, as gin files say."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import ddr_tf
from ddr_tf import cli, config


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m ddr_tf.train",
        description="Train DDR, or resume: the same command again continues from the last checkpoint.",
        epilog="example: python -m ddr_tf.train --gin_file gin/quickstart.gin --gin_param 'train.steps=1000'",
    )
    config.add_flags(flags)
    flags.add_argument(
        "--run_dir",
        type=config.path_flag,
        metavar="DIR",
        help="where results go (default: runs/<name of the last gin file>)",
    )
    flags.add_argument(
        "--strategy",
        choices=("mirrored", "multi_worker"),
        default="mirrored",
        help="mirrored (the default): all GPUs of this machine; multi_worker: of the machines that TF_CONFIG names",
    )
    flags.add_argument("--seed", type=int, help="seed of weights, batches and noise (default: train.seed)")
    return flags


def _advice(run_dir: Path) -> str:
    """When the held-out ELBO of a finished run was best, and what to do about it, in one line."""
    from ddr_tf import runs

    record = runs.read_record(run_dir)
    best, last = record.get("best_step"), record["step"]
    if best is None or best == last:
        return f"the held-out ELBO was best at the last step, {last:,}: more of train.steps may help"
    is_augmented = record["settings"].get("train.augmentation", "None") != "None"
    augmentation = "" if is_augmented else "or train.augmentation = @Augmentation "
    return (
        f"the held-out ELBO was best at step {best:,} of {last:,}; {runs.MODEL} is of that step, {runs.MODEL_LAST} of "
        "the last. After it the model learned the training sequences by heart: more sequences "
        f"{augmentation}help, more steps do not"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 only when the run has finished."""
    flags = parser().parse_args(arguments)
    run_dir = flags.run_dir or str(Path("runs") / Path(flags.gin_file[-1]).stem)
    bindings = flags.gin_param + ([] if flags.seed is None else [f"train.seed = {flags.seed}"])

    def body() -> None:
        # After the flags, so that --help and wrong flags answer at once.
        from ddr_tf.runs import last_good
        from ddr_tf.training import devices
        from ddr_tf.training.loop import train
        from ddr_tf.training.signals import SIGNALS, not_ignored

        config.load(flags.gin_file, bindings, flags.data_dir)
        config.warn_of_no_effect(bindings)
        # TensorFlow wants this before anything else.
        settings = config.settings(train)
        used = devices.make_devices(flags.strategy, [settings["batch_size"]], settings["augmentation"] is not None)
        # What batch systems send works like Ctrl-C. It comes after the devices, which make TensorFlow swallow signals.
        for number in not_ignored(SIGNALS):
            signal.signal(number, signal.default_int_handler)
        with used.lost_workers(lambda: last_good(Path(run_dir))):
            config.call(train, run_dir=run_dir, devices=used)
        print(f"finished; the pictures, the model and metrics.jsonl are in {run_dir}")
        print(_advice(Path(run_dir)))

    def stopped() -> str:
        from ddr_tf.runs import newest_checkpoint

        path = newest_checkpoint(Path(run_dir))
        return f"stopped; the same command resumes from {path}" if path else "stopped before the first checkpoint"

    print(f"ddr_tf {ddr_tf.__version__}: {' and '.join(flags.gin_file)} to {run_dir}", flush=True)
    return cli.run(body, stopped)


if __name__ == "__main__":
    sys.exit(main())
