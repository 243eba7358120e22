"""Names of labels, from which names of metrics are made: `swap_<label>_accuracy`, `probe_static_to_<label>`..."""

import re
from collections.abc import Iterable

from ddr_tf.errors import UserError

# What stands in the place of a label in the names of metrics that need none, as in `swap_identity_accuracy`.
OWN = ("identity", "pose", "recognised", "landmark", "landmarks")
TRANSFERS = ("", "relative_", "conditioned_", "neighbours_")  # before a label of sequences: `swap_relative_<label>_...`
# After a label: `sample_diversity_<label>_standard`, `judge_fixed_static_<label>_conditional_entropy`.
ENDINGS = ("", "_standard", "_conditional")


def _variants(name: str) -> set[str]:
    """What may stand in names of metrics around a name in the place of a label."""
    return {before + name + after for before in TRANSFERS for after in ENDINGS}


_TAKEN = frozenset[str]().union(*map(_variants, OWN))


def name_in_metrics(label: str) -> str:
    """What a label is called in names of metrics: its name, with "label_" before it where that is a metric's own."""
    return f"label_{label}" if label in _TAKEN else label


def check_names(of_sequences: Iterable[str], of_frames: Iterable[str]) -> None:
    """Checks that no two metrics of these labels would have the same name.

    Raises:
      UserError: If they would, or a name is no text.
    """
    labels = [*of_sequences, *of_frames]
    users: dict[str, int] = {}
    for number, label in enumerate(labels):
        if not isinstance(label, str):
            raise UserError(f"Names of labels must be text, got {label!r}.")
        if re.search(r"_with_\d+_frames$", label):
            raise UserError(f"The label '{label}' ends as metrics of other numbers of frames do; rename it.")
        for name in _variants(name_in_metrics(label)):
            other = labels[users.setdefault(name, number)]
            if users[name] == number:
                continue
            if other == label:
                raise UserError(f"The label '{label}' is of sequences as well as of frames; rename one.")
            raise UserError(f"The labels '{other}' and '{label}' would give metrics of the same name; rename one.")
