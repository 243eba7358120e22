"""Shows what a dataset holds: sequences, frames, labels, what is not used and why, and a contact sheet."""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ddr_tf import cli, config
from ddr_tf.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from ddr_tf.data.sequence_dataset import SequenceDataset

SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_ROWS = 12  # sequences in the contact sheet
FRAMES_PER_ROW = 10  # of each, evenly spaced


def describe(sequences: "SequenceDataset") -> list[str]:
    """Lines of text."""
    import numpy as np

    height, width, channels = sequences.frame_shape
    lines = [f"{sequences.name}: frames of {height} x {width} x {channels}", ""]
    lines.append(f"{'split':12}{'sequences':>10}{'frames':>12}    frames a sequence: least, median, most")
    for split, numbers in sequences.splits.items():
        counts = sequences.frame_counts[numbers]
        spread = f"{counts.min()}, {np.median(counts):g}, {counts.max()}"
        lines.append(f"{split:12}{len(numbers):>10,}{counts.sum():>12,}    {spread}")
    unused = sequences.num_sequences - sum(map(len, sequences.splits.values()))
    lines += [f"{'in neither':12}{unused:>10,}"] if unused else []
    for kind, labels in (("sequences", sequences.static_labels), ("frames", sequences.frame_labels)):
        for name, values in labels.items():
            if name in sequences.label_names:
                words = Counter(sequences.label_names[name][value] for value in values if value >= 0)
                known, what = words.total(), ", ".join(f"{word} {count:,}" for word, count in words.most_common(8))
                what += f", and {len(words) - 8} more" if len(words) > 8 else ""
            else:
                values = np.asarray(values, np.float64)
                known = int(np.isfinite(values).sum())
                what = f"{np.nanmin(values):g} to {np.nanmax(values):g}" if known else "none"
            lines.append(f"label of {kind}: {name}, known of {known / len(values):.0%}: {what}")
    if sequences.remarks:
        lines += ["", "not used as it is"]
        # The same reason for many files is one line; what differs is the path of another file.
        alike: dict[tuple[str, str], list[str]] = {}
        for remark in sequences.remarks:
            alike.setdefault((remark.kind, re.sub(r" /.*", " another", remark.reason)), []).append(remark.path)
        for (kind, reason), paths in sorted(alike.items(), key=lambda item: -len(item[1])):
            lines.append(f"{len(paths):>8,}  {kind:8}  {reason}; for example {paths[0]}")
    return lines


def contact_sheet(sequences: "SequenceDataset") -> "np.ndarray":
    """Frames of sequences spread over the dataset, a sequence a row; uint8 `[height, width, 3]`."""
    import numpy as np
    import tensorflow as tf

    from ddr_tf.model.ddr import as_float
    from ddr_tf.pictures import contact_sheets

    rows = np.linspace(0, sequences.num_sequences - 1, min(MAX_ROWS, sequences.num_sequences)).astype(np.int32)
    frame = np.stack([np.linspace(0, sequences.frame_counts[row] - 1, FRAMES_PER_ROW).astype(np.int32) for row in rows])
    frames = sequences.frames(tf.constant(np.tile(rows[:, None], (1, FRAMES_PER_ROW))), tf.constant(frame))
    sheet = contact_sheets.with_row_names(
        contact_sheets.grid(as_float(frames).numpy()), [sequences.ids[row] for row in rows]
    )
    return contact_sheets.with_caption(
        sheet,
        f"{sequences.name}: {len(rows)} of {sequences.num_sequences:,} sequences, {FRAMES_PER_ROW} frames of each.",
    )


def main() -> int:
    """Returns the exit status."""
    flags = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python tools/inspect_dataset.py --gin_file gin/frame_folders.gin "
        "--gin_param 'FrameFolders.root=\"my_frames\"' --sheet my_frames.png",
    )
    config.add_flags(flags)
    flags.add_argument(
        "--sheet",
        type=config.path_flag,
        metavar="FILE",
        help="where to write the contact sheet, a PNG, JPEG or WebP by its suffix (default: none)",
    )
    given = flags.parse_args()

    def body() -> None:
        if given.sheet and Path(given.sheet).suffix.lower() not in SHEET_SUFFIXES:
            raise UserError(f"--sheet: {given.sheet} must end with one of {', '.join(SHEET_SUFFIXES)}.")
        if given.sheet:
            cli.check_writable(Path(given.sheet), "The contact sheet")
        from PIL import Image

        from ddr_tf.training import loop  # noqa: F401  (registers what gin files name)

        config.load(given.gin_file, given.gin_param, given.data_dir)
        config.warn_of_no_effect(given.gin_param)
        sequences = config.bound_value("train.sequences")()
        print("\n".join(describe(sequences)))
        if given.sheet:
            sheet = Image.fromarray(contact_sheet(sequences))
            try:
                sheet.save(Path(given.sheet))
            except OSError as error:
                raise UserError(f"The contact sheet {given.sheet} cannot be written: {error}.") from error
            print(f"\ncontact sheet: {given.sheet}")

    return cli.run(body)


if __name__ == "__main__":
    sys.exit(main())
