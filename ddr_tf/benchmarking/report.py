"""What `measure` returns, as tables in Markdown that also read well as text."""

import math
import textwrap
from typing import Any

from ddr_tf.model import flops
from ddr_tf.tables import markdown_table

LINE_WIDTH = 100  # columns


def report(results: dict[str, Any]) -> str:
    """All tables, with a sentence or two between them."""
    sections = [_head(results), _training_table(results), _training_notes(results)]
    sections += [_parts_table(name, parts) for name, parts in results["parts"].items()]
    sections += [_frame_counts_table(name, counts) for name, counts in results["num_frames"].items() if counts]
    sections += [_latency_table(results["latency"]), _start_up_lines(results["start_up"])]
    return "\n".join(sections)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, LINE_WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def _head(results: dict[str, Any]) -> str:
    machine, sgemm = results["machine"], results["sgemm"]
    names = [machine["cpu"], f"{machine['cores']} cores", f"{machine['ram_gb']:.0f} GB", *machine["gpus"]]
    text = _wrapped(", ".join(names) + ".")
    text += _wrapped(", ".join(f"{package} {version}" for package, version in results["versions"].items()) + ".")
    if machine["onednn"] is False and not machine["gpus"]:
        text += _wrapped("oneDNN is off on this CPU; set the environment variable TF_ENABLE_ONEDNN_OPTS=1 and compare.")
    return text + _wrapped(
        f"sgemm: {results['sgemm_gflops']:,.0f} GFLOP/s, float32, {sgemm['rows']} x {sgemm['rows']}; the median of "
        f"{sgemm['readings']} readings ({sgemm['least_gflops']:,.0f} to {sgemm['most_gflops']:,.0f}) between those of "
        "the training steps."
    )


def _training_table(results: dict[str, Any]) -> str:
    rows = [["training", "B x N", "frame", "GFLOP", "frames/s", "least, most", "of sgemm", "input"]]
    for name, training in results["train"].items():
        extremes = (training["least_frames_per_second"], training["most_frames_per_second"])
        speed = training["input"].get("frames_per_second")
        rows.append(
            [
                name,
                f"{training['batch_size']}x{training['num_frames']}",
                "x".join(map(str, training["frame_shape"])),
                f"{training['gflop_per_frame']:.3f}",
                _three_digits(training["frames_per_second"]),
                ", ".join(map(_three_digits, extremes)),
                f"{training['share_of_sgemm']:.0%}",
                _three_digits(speed) if speed else "-",
            ]
        )
    return markdown_table(rows)


def _training_notes(results: dict[str, Any]) -> str:
    text = _wrapped(
        f"frames/s: the median of {results['rounds']} readings, in turns, on frames of noise (speed does not depend on "
        "what they show). GFLOP: of a frame, forward and backward. input: frames/s of the dataset alone."
    )
    for name, training in results["train"].items():
        if reason := training["input"].get("not_at_hand"):
            text += _wrapped(f"The data of {name} are not at hand: {reason}")
    if results["left_out"]:
        text += _wrapped(f"Left out, since they need more settings: {', '.join(results['left_out'])}.")
    return text


def _three_digits(value: float) -> str:
    """Three significant digits, or more before the point."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else f"{value:.0f}"


def _parts_table(name: str, parts: dict[str, dict[str, float]]) -> str:
    rows = [[f"{name}, a step", "forward, ms", "GFLOP/s", "with backward, ms", "GFLOP/s", "of the step"]]
    step = parts["step"]["seconds"]
    for part, results in parts.items():
        if part in flops.PARTS:
            seconds = results["forward_and_backward_seconds"]
            cells = [_milliseconds(results["forward_seconds"]), f"{results['forward_gflops']:,.0f}"]
            cells += [_milliseconds(seconds), f"{results['forward_and_backward_gflops']:,.0f}"]
        else:
            seconds = results.get("seconds", results.get("update_seconds"))
            cells = ["", "", _milliseconds(seconds), ""]
        rows.append([part, *cells, "beside it" if part == "input" else f"{seconds / step:.0%}"])
    return markdown_table(rows)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.1f}"


def _frame_counts_table(name: str, counts: dict[str, dict[str, float]]) -> str:
    reference = "8" if "8" in counts else next(iter(counts))
    rows = [[f"{name}, N", "B", "frames/s", f"seconds a frame, to those of N = {reference}", "GFLOP"]]
    speed = counts[reference]["frames_per_second"]
    for count, results in counts.items():
        rows.append(
            [
                count,
                str(results["batch_size"]),
                _three_digits(results["frames_per_second"]),
                f"{speed / results['frames_per_second']:.2f}",
                f"{results['gflop_per_frame']:.3f}",
            ]
        )
    return markdown_table(rows)


def _latency_table(latencies: dict[str, dict[str, dict[str, float]]]) -> str:
    rows = [["one sequence, ms", *(f"{name}: {statistic}" for name in latencies for statistic in ("median", "p90"))]]
    for call in next(iter(latencies.values())):
        verb, count, _ = call.split("_")
        cells = [f"{latencies[name][call][key]:.1f}" for name in latencies for key in ("median_ms", "p90_ms")]
        rows.append([f"{verb}, {count} frame{'s' * (count != '1')}", *cells])
    return markdown_table(rows)


def _start_up_lines(start_up: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, results in start_up.items():
        if "first_step_seconds" in results:
            seconds = results["first_step_seconds"]
            lines.append(f"From the start of python to the end of the first step of {name}: {seconds:.1f} s.")
        else:
            lines.append(f"The start of {name} was not measured: {results['not_measured']}")
    return "\n".join(lines) + "\n"
