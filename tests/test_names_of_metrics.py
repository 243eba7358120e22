"""Every name of a metric is explained in docs/evaluation.md."""

import re
from pathlib import Path

import pytest

from ddr_tf.compare import HEADLINES
from ddr_tf.evaluation.protocol import evaluate
from ddr_tf.evaluation.report import GROUPS, QUESTIONS
from evaluation_examples import FEW, Labelled, puppets, tiny_model

PAGE = (Path(__file__).parents[1] / "docs/evaluation.md").read_text()
NAMES = [name for cell in re.findall(r"^\| (`[^|]*) \|", PAGE, re.MULTILINE) for name in re.findall(r"`([^`]+)`", cell)]
COST = ("parameters", "training_minutes", "training_frames_per_second", "training_peak_memory_mb")


def is_explained(metric):
    return any(re.fullmatch(re.escape(name).replace("<label>", ".+"), metric) for name in NAMES)


@pytest.mark.slow
def test_every_metric_is_explained():
    metrics = [*evaluate(tiny_model(), puppets(num_poses=16), FEW), *COST]
    metrics += evaluate(tiny_model((16, 16, 1)), Labelled(), FEW)
    assert len(metrics) > 100
    assert [metric for metric in metrics if not is_explained(metric)] == []


@pytest.mark.parametrize("pattern", [*HEADLINES, *(pattern for group in GROUPS for pattern in group.headlines)])
def test_headlines_are_names_that_exist(pattern):
    wanted = re.compile(pattern.removesuffix("_with_*_frames").replace("*", ".*"))
    assert any(wanted.fullmatch(name) for name in NAMES), pattern


def test_the_questions_of_the_summary_are_on_the_page():
    assert all(question.text.replace("|", r"\|") in PAGE for question in QUESTIONS)
