import subprocess
import sys

import numpy as np
import pytest

from ddr_tf.evaluation.lazy import scikit_learn


def test_all_parts_that_the_evaluation_uses_are_imported():
    code = (
        "import sys; from ddr_tf.evaluation.lazy import scikit_learn\n"
        "assert 'sklearn' not in sys.modules; scikit_learn().linear_model.LogisticRegression"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert scikit_learn().metrics.mutual_info_score([0, 0, 1, 1], [1, 1, 0, 0]) == pytest.approx(np.log(2))
