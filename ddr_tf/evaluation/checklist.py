"""Checks of a run's metrics, each with what to change: what `evaluate` prints below its summary."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset
from ddr_tf.evaluation.metric import Metric
from ddr_tf.evaluation.report import MIN_GAIN
from ddr_tf.evaluation.summary import OTHER_NUM_FRAMES

MIN_IDENTITIES = 200  # with fewer training sequences, held-out ones usually do worse than they need to
Values = Mapping[str, float]  # name of a metric -> value; with what `_facts` adds


class Check(NamedTuple):
    """Something that can be wrong with a run.

    Attributes:
      name: In two or three words.
      applies: Whether the metrics show it. What a run lacks is a KeyError, and then it does not.
      seen: What the metrics show, as a template of their values.
      advice: What to change.
    """

    name: str
    applies: Callable[[Values], bool]
    seen: str
    advice: str


CHECKS = (
    Check(
        "collapse of z",
        lambda v: v["kl_dynamic_nats_per_frame"] < 0.5 or v["active_units_dynamic"] == 0,
        "z carries {kl_dynamic_nats_per_frame:.2f} nats a frame",
        "train longer, with a longer DDR.kl_warmup_steps; Augmentation.blend = 0; see that frames differ.",
    ),
    Check(
        "z changes nothing",
        lambda v: v["dynamic_gain"] < MIN_GAIN,
        "frames are reconstructed {dynamic_gain:.2f} dB better with their own z than with that of another frame",
        "DDR.leaky = True, a lower train.learning_rate, or less train.augmentation; see that frames differ.",
    ),
    Check(
        "collapse of f",
        lambda v: v["active_units_static"] == 0 or v["static_retrieval_accuracy"] < 0.1,
        "f has {active_units_static:.0f} active units, and finds its own sequence in {static_retrieval_accuracy:.0%}",
        "train longer, with a longer DDR.kl_warmup_steps and more frames of each sequence (train.num_frames).",
    ),
    Check(
        "z tells who it is",
        lambda v: v["worst_leakage_dynamic"] > 0.25,
        "a probe reads a label of the sequence from z, up to {worst_leakage_dynamic:.2f} of 1",
        "fewer dimensions (DDR.dynamic_dim), or more training identities; use the conditioned transfer.",
    ),
    Check(
        "f tells the pose",
        lambda v: v["leakage_static_to_pose"] > 0.25,
        "a probe reads from f which poses it was computed from, {leakage_static_to_pose:.2f} of 1",
        "more frames of each sequence (train.num_frames), or other frames for f than those that are decoded "
        "(DDR.num_static_frames).",
    ),
    Check(
        "poses not shared",
        lambda v: v["reconstruction_psnr"] - v["swap_psnr"] > 1.0,
        "a swap is {swap_gap:.1f} dB behind a reconstruction",
        "train longer: the same pose drifts apart between identities. The conditioned transfer, which pictures and the "
        "server use, is less affected.",
    ),
    Check(
        "f of clips",
        lambda v: v["clip_gap"] > 0.5,
        "a swap is {clip_gap:.1f} dB worse with f from neighbouring frames",
        "it was trained on spread frames: train it further (train.initial_model) with train.num_neighbours and "
        "train.min_static_frames.",
    ),
    Check(
        "holes in the prior",
        lambda v: v["prior_pose_coverage"] < 0.8 * v["prior_pose_coverage_ceiling"],
        "z ~ p(z | f) shows poses with an evenness of {prior_pose_coverage:.2f}, real poses have "
        "{prior_pose_coverage_ceiling:.2f}",
        "train longer with both KL terms at full weight; see the picture `prior`.",
    ),
    Check(
        "overfitting",
        lambda v: v["best_step"] < 0.8 * v["last_step"],
        "the held-out ELBO was best at step {best_step:.0f} of {last_step:.0f}",
        "fewer steps (train.steps), more training sequences, or a smaller model (DDR.width).",
    ),
    Check(
        "too few identities",
        lambda v: v["training_sequences"] < MIN_IDENTITIES,
        "there are {training_sequences:.0f} training sequences",
        f"below about {MIN_IDENTITIES}, f of new identities is vague: more of them help more than more frames of each.",
    ),
    Check(
        "few held-out sequences",
        lambda v: v["held_out_sequences"] < 20,
        "there are {held_out_sequences:.0f} held-out sequences",
        "the metrics are rough; hold out more (held_out_fraction).",
    ),
    Check(
        "blur",
        lambda v: v["reconstruction_ssim"] < 0.8,
        "reconstructions have an SSIM of {reconstruction_ssim:.2f}",
        "train longer, or a wider model (DDR.width, DDR.dense_units), or more dimensions of f (DDR.static_dim).",
    ),
)


def conspicuous(
    metrics: Mapping[str, Metric], sequences: SequenceDataset, training_log: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """What is wrong with a run and what to change, one line for each.

    Args:
      metrics: Of `evaluate`.
      sequences: The dataset.
      training_log: The lines of `metrics.jsonl`, if there are any.

    Returns:
      "name: what the metrics show. What to change." Empty if nothing is conspicuous.
    """
    facts = _facts(metrics, sequences, training_log)
    return [
        f"{check.name}: {check.seen.format(**facts)}. {check.advice[:1].upper()}{check.advice[1:]}"
        for check in CHECKS
        if _applies(check, facts)
    ]


def _applies(check: Check, facts: Values) -> bool:
    try:
        return check.applies(facts)
    except KeyError:
        return False


def _facts(
    metrics: Mapping[str, Metric], sequences: SequenceDataset, training_log: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Values of the metrics, and what else the checks look at."""
    facts = {name: metric.value for name, metric in metrics.items()}
    facts["training_sequences"] = len(sequences.splits[TRAIN])
    facts["held_out_sequences"] = len(sequences.splits[HELD_OUT])
    leaks = [
        value
        for name, value in facts.items()
        if name.startswith("leakage_dynamic_to_") and not OTHER_NUM_FRAMES.search(name)
    ]
    if leaks:
        facts["worst_leakage_dynamic"] = max(leaks)
    if "prior_pose_coverage" in metrics:
        facts["prior_pose_coverage_ceiling"] = metrics["prior_pose_coverage"].ceiling
    if "reconstruction_psnr" in metrics and metrics["reconstruction_psnr"].chance is not None:
        facts["dynamic_gain"] = facts["reconstruction_psnr"] - metrics["reconstruction_psnr"].chance
    if "swap_psnr" in metrics:
        facts["swap_gap"] = facts["reconstruction_psnr"] - facts["swap_psnr"]
    if "swap_neighbours_psnr" in metrics and "swap_conditioned_psnr" in metrics:
        facts["clip_gap"] = facts["swap_conditioned_psnr"] - facts["swap_neighbours_psnr"]
    held_out = {line["step"]: line["elbo"] for line in training_log if line["split"] == HELD_OUT}
    if len(held_out) > 1:
        facts["best_step"], facts["last_step"] = max(held_out, key=held_out.get), max(held_out)
    return facts
