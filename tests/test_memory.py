import pytest

from ddr_tf.errors import UserError
from ddr_tf.memory import check_memory


def test_what_is_larger_than_the_memory_is_refused():
    check_memory(1_000, "A few")
    with pytest.raises(UserError, match="Many take 1,000,000 GB; this machine has "):
        check_memory(10**15, "Many")
