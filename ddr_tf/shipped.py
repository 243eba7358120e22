"""Models by the names of their folders: in the working directory, in a clone, or in the installed package."""

from pathlib import Path

from ddr_tf.errors import UserError
from ddr_tf.files import local_path
from ddr_tf.runs import CONFIG, MODEL, RECORD

FOLDER = "saved_models"
_PACKAGE = Path(__file__).parent
# The models that come with ddr_tf: inside the package where it is installed, beside it in a clone.
PLACES = (_PACKAGE / FOLDER, _PACKAGE.parent / FOLDER)


def resolve(path: str | Path) -> Path:
    """The folder of a run or of an exported model.

    Args:
      path: Of the folder; or the name of one in `saved_models/` here, or of a model that comes with ddr_tf, perhaps
        with a version ("puppets/1"). A folder here that holds no model, such as one of images, does not hide those.

    Raises:
      UserError: If there is no such folder; it says which there are.
    """
    place = local_path(path)
    is_name = len(place.parts) == 1 or (len(place.parts) == 2 and place.name.isdecimal())
    named = [folder / place for folder in (Path(FOLDER), *PLACES)] if is_name else []
    there = [candidate for candidate in (place, *named) if candidate.is_dir()]
    if place.exists() and place not in there:  # a file
        return place
    if there:
        return next(filter(_holds_model, there), there[0])
    if len(place.parts) == 1:
        names = ", ".join(model_names()) or "none"
        raise UserError(f"There is no folder {place}, and no exported model of that name; there are: {names}.")
    names = _folders(place.parent)
    others = f"; in {place.parent} there are: {', '.join(names)}" if names else ""
    raise UserError(f"There is no folder {place}{others}.")


def _holds_model(folder: Path) -> bool:
    """Whether a folder is a run, an exported model, or a version of one."""
    return is_run(folder) or any(next(folder.glob(pattern), None) for pattern in ("saved_model.pb", "*/saved_model.pb"))


def model_names() -> list[str]:
    """Names of the exported models here and of those that come with ddr_tf."""
    return sorted({name for folder in (Path(FOLDER), *PLACES) for name in _folders(folder)})


def _folders(parent: Path) -> list[str]:
    if not parent.is_dir():
        return []
    return sorted(path.name for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


def is_run(folder: Path) -> bool:
    """Whether a folder is a run, finished or not, and not an exported model."""
    return any((folder / name).is_file() for name in (CONFIG, RECORD, MODEL))
