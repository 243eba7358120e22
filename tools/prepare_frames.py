"""Turns videos, or folders of images, into folders of frames: OUT/<sequence>/<frame>.jpg.

A second run with the same settings continues what an interrupted one left. The input is never changed.
"""

import argparse
import sys
from pathlib import Path

from ddr_tf import cli, config
from ddr_tf.errors import UserError


def parse_flags() -> argparse.Namespace:
    """The command line."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument(
        "input", type=config.path_flag, help="a video, or a folder that is searched for videos and images"
    )
    flags.add_argument(
        "--out", type=config.path_flag, required=True, help="where the folders of frames go; outside the input"
    )
    flags.add_argument("--step", type=int, default=1, help="take every STEP-th frame (default: %(default)s)")
    flags.add_argument("--max_frames", type=int, help="take so many frames of each sequence at most (default: all)")
    flags.add_argument("--size", type=int, help="side of the frames in pixels (default: 112 for crops, else unchanged)")
    flags.add_argument(
        "--image_type",
        choices=("jpg", "png"),
        default="jpg",
        help="jpg is of quality 95; png loses nothing and takes several times the space (default: %(default)s)",
    )
    flags.add_argument("--faces", action="store_true", help="follow one face through each sequence and crop it")
    flags.add_argument(
        "--boxes", type=config.path_flag, metavar="DIR", help="crop the boxes in DIR/<sequence>/<frame>.pts (Aff-Wild)"
    )
    flags.add_argument("--margin", type=float, help="around a box, in sides of it (default: 0.2 with --faces, else 0)")
    flags.add_argument(
        "--value_range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="the values that are black and white in images of 16 or 32 bits a pixel, as 0 4095 for 12 bits (default: "
        "0 65535, and images of 32 bits are left out)",
    )
    flags.add_argument(
        "--shards",
        type=config.path_flag,
        metavar="DIR",
        help="write the frames as TFRecord shards to DIR, too; needs --size",
    )
    flags.add_argument("--workers", type=int, help="sequences at a time (default: the number of cores)")
    return flags.parse_args()


def main() -> int:
    """Returns the exit status."""
    flags = parse_flags()

    def body() -> None:
        from ddr_tf.preparation.videos import SKIPPED_FILE, Settings, prepare

        settings = Settings(
            **{name: getattr(flags, name) for name in ("step", "max_frames", "size", "image_type", "faces", "boxes")},
            margin=flags.margin,
            value_range=flags.value_range and tuple(flags.value_range),
        )
        if flags.shards and (not flags.size or flags.size % 16):
            raise UserError("--shards needs --size, a multiple of 16: all frames of shards are alike.")
        if flags.shards:
            cli.check_folder(Path(flags.shards), "--shards")
        summary = prepare(Path(flags.input), Path(flags.out), settings, flags.workers)
        if flags.shards:
            from ddr_tf.data.frame_folders import FILE_NAME, FrameFolders
            from ddr_tf.data.shards import write_shards

            # Numbers of frames say nothing of what is seen.
            pose_label = FILE_NAME if summary.keeps_names else None
            frames = FrameFolders(str(flags.out), flags.size, pose_label=pose_label)
            write_shards(frames, Path(flags.shards), workers=flags.workers)
        print(f"{flags.out}: {summary}")
        if summary.skipped or summary.notes or summary.remarks or summary.unused:
            print(f"see {Path(flags.out) / SKIPPED_FILE}")

    said = "interrupted; the same command again goes on from here"
    return cli.run(body, lambda: said, needs_tensorflow=bool(flags.shards))


if __name__ == "__main__":
    sys.exit(main())
