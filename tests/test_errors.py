import pickle

import pytest

from ddr_tf.errors import UserError


@pytest.mark.parametrize("end", ["\n", "\r\n", "\x0b", "\u2028"])
def test_an_error_is_one_line_whatever_is_in_the_names(end):
    assert str(UserError(f"There is no folder a{end}b.")) == "There is no folder a b."


def test_errors_pass_between_processes():
    assert str(pickle.loads(pickle.dumps(UserError("a.\nb.")))) == "a. b."
