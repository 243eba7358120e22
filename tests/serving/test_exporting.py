"""What is written into an exported model. tests/test_export.py has whole exports."""

import numpy as np
import pytest

from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR
from ddr_tf.serving.exporting import check_name, example_inputs
from ddr_tf.serving.signatures import Signatures
from tiny import SIZES


def test_each_signature_of_numbers_answers_its_example():
    model = DDR((16, 16, 1), **SIZES)
    signatures = Signatures(model).functions()
    examples = example_inputs(model)
    assert set(examples) == set(signatures) - {"encode_bytes"}
    for name in ("encode_dynamic", "prior", "sample_standard"):
        assert all(np.isfinite(value).all() for value in signatures[name](**examples[name]).values())


@pytest.mark.parametrize("folder", ["saved_models", "mine"])
def test_the_folder_of_all_models_is_no_place_for_one(tmp_path, folder):
    (tmp_path / "mine/puppets/1").mkdir(parents=True)
    with pytest.raises(UserError, match=f"{folder} lacks the name of the model; give one, as .*{folder}/puppets"):
        check_name(tmp_path / folder)
    check_name(tmp_path / "mine/puppets")
