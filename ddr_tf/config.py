"""gin files and bindings in; one-line errors with file and line out.

What can be configured is what is decorated with `configurable`. A dataset or model is chosen by reference, for example
`train.sequences = @Puppets`, and called by `train` when the strategy's scope is open.
"""

import argparse
import contextlib
import difflib
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import gin

from ddr_tf.errors import UserError

Target = TypeVar("Target", bound=Callable[..., Any])

_CONFIGURABLES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {}
_sources: list[tuple[str, str]] = []  # description and text of what was read; gin's own state is global, too
_NAME = re.compile(r"\b([A-Za-z_]\w*)\.([a-z_]\w*)\b")


def configurable(*, not_in_gin: Sequence[str] = ()) -> Callable[[Target], Target]:
    """Decorator: makes the parameters of a function or class settable in gin files, as `Name.parameter = value`.

    Args:
      not_in_gin: Parameters that the caller always gives.
    """

    def register(target: Target) -> Target:
        _CONFIGURABLES[target.__name__] = (target, tuple(not_in_gin))
        return gin.register(target, denylist=list(not_in_gin) or None)

    return register


def default_data_dir() -> str:
    """The environment variable DDR_TF_DATA, else ~/.cache/ddr_tf."""
    return os.environ.get("DDR_TF_DATA") or str(Path("~/.cache/ddr_tf").expanduser())


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Adds --gin_file, --gin_param and --data_dir, the arguments of `load`."""
    flags.add_argument(
        "--gin_file", action="append", required=True, metavar="FILE", help="settings; repeatable, later ones win"
    )
    flags.add_argument(
        "--gin_param",
        action="append",
        default=[],
        metavar="BINDING",
        help="one setting, as 'train.steps=1000'; repeatable",
    )
    flags.add_argument(
        "--data_dir", metavar="DIR", help="where datasets are (default: $DDR_TF_DATA, else ~/.cache/ddr_tf)"
    )


def locate(name: str) -> str | None:
    """Where a parameter, given as "Name.parameter", was last set: "gin/a.gin, line 3", or None."""
    for source, text in reversed(_sources):
        for number, line in reversed(list(enumerate(text.splitlines(), start=1))):
            if re.match(rf"\s*(?:\w+/)*(?:\w+\.)*{re.escape(name)}\s*=", line):
                return f"{source}, line {number}"
    return None


def explain(message: str) -> str:
    """Adds to a message the place of the first parameter in it that a file or binding sets."""
    for match in _NAME.finditer(message):
        place = locate(match.group())
        if place:
            return f"{message} [{match.group()}: {place}]"
    return message


def load(gin_files: Sequence[str], bindings: Sequence[str] = (), data_dir: str | None = None) -> None:
    """Reads gin files and then bindings into gin's state, replacing what was there, and checks names and types.

    Args:
      gin_files: Paths; an `include` is looked up in the folder of the file that includes it.
      bindings: For example "train.steps = 1000".
      data_dir: Value of the macro `%data_dir`; None: what the files say, else `default_data_dir()`.

    Raises:
      UserError: For a missing file, bad syntax, an unknown name (with the nearest right one) or a value of the wrong
        type, with file and line.
    """
    gin.clear_config()
    _sources.clear()
    gin.bind_parameter("data_dir/gin.macro.value", default_data_dir())
    for path in map(Path, gin_files):
        if not path.is_file():
            raise UserError(f"There is no gin file {path}{_nearest(path.name, _names_in(path.parent))}.")
        # From its own folder, so that includes are found there.
        with _one_line_errors(str(path)), contextlib.chdir(path.parent):
            includes = gin.parse_config_file(path.name).includes
        _sources.extend(_texts(path, includes))
    for binding in bindings:
        source = f"--gin_param '{binding}'"
        with _one_line_errors(source):
            gin.parse_config(binding)
        _sources.append((source, binding))
    if data_dir is not None:
        gin.bind_parameter("data_dir/gin.macro.value", data_dir)
    with _one_line_errors("the gin files"):
        gin.finalize()
    for name, value in _bound_values():
        _check_type(name, value)


def call(target: Callable[..., Any], **given: Any) -> Any:
    """Calls a configurable with what gin holds for it.

    Raises:
      UserError: If a parameter without a default is not set.
    """
    _check_required(target.__name__)
    return gin.get_configurable(target)(**given)


def bound(name: str) -> Any:
    """What the files set "Name.parameter" to, references called.

    Raises:
      UserError: If they do not.
    """
    target, parameter = name.split(".")
    if parameter not in gin.get_bindings(target, resolve_references=False):
        raise _not_set(name)
    return gin.get_bindings(target)[parameter]


def settings(target: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of a configurable as the files set them, else their defaults.

    Raises:
      UserError: If a parameter without a default is not set.
    """
    name = target.__name__
    _check_required(name)
    defaults = {key: each.default for key, each in _parameters(name).items() if each.default is not each.empty}
    return defaults | gin.get_bindings(name)


def operative_text() -> str:
    """All parameters of what gin has called so far, defaults and imports included, as a gin file."""
    return gin.operative_config_str(max_line_length=120)


def operative() -> dict[str, str]:
    """The same as "Name.parameter" -> value as written in gin."""
    lines = gin.operative_config_str(max_line_length=1_000_000).splitlines()  # a line each
    return dict(line.split(" = ", 1) for line in lines if " = " in line and not line.startswith("#"))


def is_default(name: str, value: str) -> bool:
    """Whether "Name.parameter" has this value, as `operative` writes it, where nothing sets it."""
    target, _, parameter = name.rpartition(".")
    known = _parameters(target) if target in _CONFIGURABLES else {}
    return parameter in known and repr(known[parameter].default) == value


def _texts(path: Path, includes: Iterable[Any]) -> list[tuple[str, str]]:
    """(path, text) of a file that gin has read, after those of the files it includes."""
    texts = [text for read in includes for text in _texts(path.parent / read.filename, read.includes)]
    return [*texts, (str(path), path.read_text())]


def _names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.gin")]


def _nearest(name: str, names: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    target, not_in_gin = _CONFIGURABLES[name]
    parameters = inspect.signature(target).parameters
    return {key: value for key, value in parameters.items() if key not in not_in_gin}


@contextlib.contextmanager
def _one_line_errors(source: str) -> Iterator[None]:
    """Turns what gin raises into a `UserError` of one line that names the place and the nearest right name."""
    try:
        yield
    except (ValueError, SyntaxError, TypeError, AttributeError, ImportError, OSError) as error:
        message, *details = str(error).splitlines()
        place = re.search(r'In file "(.*)", line (\d+)|\((.*), line (\d+)\)', str(error))
        if place:
            source = f"{Path(source).parent / (place[1] or place[3])}, line {place[2] or place[4]}"
        message = re.sub(r" \((.*)line \d+\)$", "", message)
        hint = ""
        if match := re.match(r"No configurable matching (?:reference )?'@?([\w/.]+)(?:\(\))?'", message):
            hint = _nearest(match[1].split(".")[-1], _CONFIGURABLES)
        elif match := re.match(r"Configurable '(?:.*\.)?(\w+)' doesn't have a parameter named '(\w+)'", message):
            hint = _nearest(match[2], _parameters(match[1]))
        elif match := re.match(r"No bindings specified for '(\w+)/gin.macro'", message):
            message = f"The macro %{match[1]} has no value"
        elif isinstance(error, AttributeError):  # gin's answer to an include that does not exist
            message = "Cannot read the included file: " + details[-1].strip()
        raise UserError(f"{source}: {message.rstrip('. ')}{hint}.") from error


def _bound_values() -> Iterator[tuple[str, Any]]:
    for name in _CONFIGURABLES:
        for parameter, value in gin.get_bindings(name, resolve_references=False).items():
            if isinstance(value, gin.config.ConfigurableReference) and value.selector.endswith("macro"):
                value = gin.query_parameter(f"%{value.scoped_selector.split('/')[0]}")
            yield f"{name}.{parameter}", value


def _check_required(name: str) -> None:
    """Raises UserError if a parameter that a configurable needs is not set."""
    given = gin.get_bindings(name, resolve_references=False)
    for parameter, description in _parameters(name).items():
        if description.default is inspect.Parameter.empty and parameter not in given:
            raise _not_set(f"{name}.{parameter}")


def _not_set(name: str) -> UserError:
    return UserError(f"{name} is not set; set it in a gin file or with --gin_param.")


def _check_type(name: str, value: Any) -> None:
    configurable_name, parameter = name.split(".")
    target = _CONFIGURABLES[configurable_name][0]
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    wanted = hints.get(parameter)
    if typing.get_origin(wanted) is Callable:
        if not isinstance(value, gin.config.ConfigurableReference) or value.evaluate:
            raise UserError(explain(f"{name} must be a name with @ and without (), as @Puppets; got {value!r}."))
        _check_required(value.selector.rpartition(".")[2])
        return
    allowed = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if not set(allowed) <= {int, float, bool, str, tuple, type(None)}:
        return  # something that only the code itself can judge
    fits = type(value) in allowed or (type(value) is int and float in allowed)
    if not fits:
        kinds = " or ".join("None" if kind is type(None) else kind.__name__ for kind in allowed)
        raise UserError(explain(f"{name} must be {kinds}, got {value!r}."))
