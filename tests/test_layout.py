"""The tests mirror the modules; CONTRIBUTING.md has the rule."""

from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "ddr_tf"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
IN_SEVERAL_FOLDERS = {name for name, count in Counter(module.name for module in MODULES).items() if count > 1}
NOT_OF_PYTHON = {Path("serving/test_explorer.py")}  # of the JavaScript in serving/explorer


def file_of_tests(module):
    """Where the tests of a module are: of `data/labels.py` in `data/test_labels.py`.

    Where several folders have a module of one name, the folder's name is put before it.
    """
    folder = f"{module.parent.name}_" if module.name in IN_SEVERAL_FOLDERS else ""
    return module.with_name(f"test_{folder}{module.name}")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_test_file(module):
    assert (TESTS / file_of_tests(module)).is_file()


def test_every_test_file_in_the_folder_of_a_package_is_that_of_a_module():
    wanted = {file_of_tests(module) for module in MODULES}
    folders = {module.parent for module in MODULES} - {Path()}
    files = {path.relative_to(TESTS) for folder in folders for path in (TESTS / folder).glob("test_*.py")}
    assert files - wanted == NOT_OF_PYTHON


def test_names_of_files_are_unique():
    """pytest imports them by their names alone."""
    counts = Counter(path.name for path in TESTS.rglob("*.py"))
    assert [name for name, count in counts.items() if count > 1] == []
