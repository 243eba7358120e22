import subprocess
import sys

import numpy as np
import pytest

from ddr_tf.errors import UserError
from ddr_tf.evaluation.optional import scikit_learn
from ddr_tf.evaluation.probes import probe


def noise(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[eval\]'"):
        probe(noise(10, 2), np.arange(10) % 2, np.arange(10))


def test_all_parts_that_the_evaluation_uses_are_imported():
    code = (
        "import sys; from ddr_tf.evaluation.optional import scikit_learn\n"
        "assert 'sklearn' not in sys.modules; scikit_learn().linear_model.LogisticRegression"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert scikit_learn().metrics.mutual_info_score([0, 0, 1, 1], [1, 1, 0, 0]) == pytest.approx(np.log(2))
