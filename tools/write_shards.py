"""Writes any dataset as TFRecord shards, for what does not fit in memory. The same command again goes on."""

import argparse
import sys
from pathlib import Path

from ddr_tf import cli, config
from ddr_tf.errors import UserError


def main() -> int:
    """Returns the exit status."""
    flags = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python tools/write_shards.py --gin_file gin/sprites_small.gin --out shards/sprites; then "
        "python -m ddr_tf.train --gin_file gin/sprites_small.gin --gin_file gin/shards.gin "
        "--gin_param 'TFRecords.folder=\"shards/sprites\"'",
    )
    config.add_flags(flags)
    flags.add_argument("--out", required=True, type=config.path_flag, metavar="DIR", help="where the shards go")
    flags.add_argument("--shard_mb", type=float, help="megabytes of uncompressed frames in a shard (default: 64)")
    flags.add_argument("--workers", type=int, help="threads (default: one a core)")
    given = flags.parse_args()

    def body() -> None:
        from ddr_tf.data.shards import SHARD_MB, write_shards
        from ddr_tf.training import loop  # noqa: F401  (registers what gin files name)

        if given.workers is not None and given.workers < 1:
            raise UserError(f"--workers must be at least 1, got {given.workers}.")
        if given.shard_mb is not None and not given.shard_mb > 0:
            raise UserError(f"--shard_mb must be above 0, got {given.shard_mb}.")
        cli.check_folder(Path(given.out), "--out")
        config.load(given.gin_file, given.gin_param, given.data_dir)
        sequences = config.bound_value("train.sequences")()
        shard_mb = SHARD_MB if given.shard_mb is None else given.shard_mb
        written = write_shards(sequences, Path(given.out), shard_mb, given.workers)
        print(f"{given.out}: {sequences.num_sequences:,} sequences of {sequences.name}; {written} shards written now")

    return cli.run(body, lambda: "stopped; the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
