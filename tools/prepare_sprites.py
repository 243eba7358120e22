"""Downloads the LPC sprite sheets that are missing, and checks that all 24 can be read."""

import argparse
import sys
from pathlib import Path

from ddr_tf import cli, config


def main() -> int:
    """Returns the exit status."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument(
        "--data_dir", type=config.path_flag, default=config.default_data_dir(), help="holds lpc/ (default: %(default)s)"
    )
    folder = Path(flags.parse_args().data_dir) / "lpc"

    def body() -> None:
        from ddr_tf.data.sprites import SHEETS, download_sheets, read_sheet

        download_sheets(folder)
        frames = [len(read_sheet(folder / path)) for sheets in SHEETS.values() for path, _ in sheets]
        print(f"{folder}: {len(frames)} sheets of {frames[0]} frames each")

    return cli.run(body)


if __name__ == "__main__":
    sys.exit(main())
