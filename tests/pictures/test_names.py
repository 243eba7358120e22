import pytest

from ddr_tf.pictures import names
from ddr_tf.pictures.names import legible, shortened


def test_names_are_cut_at_the_beginning_to_the_width_that_they_take():
    assert shortened("short", 16) == "short"
    assert shortened("a name that is long", 9) == "… is long"
    assert shortened("山田太郎", 8) == "山田太郎"
    assert shortened("山田太郎", 7) == "…田太郎"


def test_dollars_are_no_formulas():
    assert legible("a$b$c", or_else="1") == r"a\$b\$c"


@pytest.mark.parametrize("name", ["\U0010fffd", "ab\U0010fffdcd", "שלום"])
def test_what_cannot_be_set_is_replaced(name):
    assert legible(name, or_else="no. 3") == "no. 3"


def test_control_characters_are_not_drawn():
    assert legible("a\nb\x1b", or_else="1") == "a·b·"


def test_other_scripts_are_set_in_a_font_that_has_them(monkeypatch):
    monkeypatch.setattr(names, "_found_in", {})
    if (text := legible("山田", or_else="no. 3")) == "no. 3":
        pytest.skip("no font of this machine has these characters")
    assert text == "山田"
    assert len(names.font_families()) == 2
