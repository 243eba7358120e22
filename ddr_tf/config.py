"""Reads gin files and bindings, and answers mistakes in them with one line that names the file and the line.

What can be configured is decorated with `configurable`. A dataset or model is chosen by reference, for example
`train.sequences = @Puppets`, and `train` calls it once the strategy's scope is open.
"""

import argparse
import ast
import contextlib
import difflib
import inspect
import os
import re
import sys
import tempfile
import tokenize
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

import gin

from ddr_tf import files
from ddr_tf.errors import UserError

Target = TypeVar("Target", bound=Callable[..., Any])

_CONFIGURABLES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {}
_NAME = re.compile(r"\b([A-Za-z_]\w*)\.([a-z_]\w*)\b")
_BINDING = re.compile(r"\s*(?:\w+/)*(?P<name>[A-Za-z_][\w.]*)\s*=(?!=)\s*(?P<value>.*?)\s*")
_DATA_DIR = "data_dir"  # the macro that --data_dir sets

# The shipped gin files: inside the package where it is installed, beside it in a clone.
SHIPPED = next(
    (path for path in (Path(__file__).parent / "gin", Path(__file__).parents[1] / "gin") if path.is_dir()), None
)

# What the last `load` read. gin's own state is global, too.
_sources: list[tuple[str, str]] = []  # description and text
_called_now: list[str] = []  # names of what `call` calls, the innermost last
_reading_now: list[Path] = []  # gin files, the innermost last; after an error the one that has it


def configurable(*, not_in_gin: Sequence[str] = ()) -> Callable[[Target], Target]:
    """Decorator: makes the parameters of a function or class settable in gin files, as `Name.parameter = value`.

    Args:
      not_in_gin: Parameters that the caller always gives.
    """

    def register(target: Target) -> Target:
        _CONFIGURABLES[target.__name__] = (target, tuple(not_in_gin))
        return gin.register(target, denylist=list(not_in_gin) or None)

    return register


def cache_dir() -> Path:
    """Where downloads and decoded frames are kept: ~/.cache/ddr_tf, or a temporary folder for users without a home."""
    home = os.path.expanduser("~")
    if home == "~":
        return Path(tempfile.gettempdir(), f"ddr_tf_{getattr(os, 'getuid', int)()}")
    return Path(home, ".cache", "ddr_tf")


def default_data_dir() -> str:
    """The environment variable DDR_TF_DATA, else `cache_dir`."""
    return os.path.expanduser(os.environ.get("DDR_TF_DATA") or str(cache_dir()))


def path_flag(text: str) -> str:
    """A path that a command line takes, with `~` expanded, for argparse's `type`."""
    try:
        if not text.strip():
            raise UserError("a path is empty; name a file or a folder")
        return str(files.local_path(text))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Adds --gin_file, --gin_param and --data_dir, the arguments of `load`."""
    flags.add_argument(
        "--gin_file",
        action="append",
        required=True,
        type=path_flag,
        metavar="FILE",
        help="settings: a path, or the name of a file that comes with ddr_tf; repeatable, later ones win",
    )
    flags.add_argument(
        "--gin_param",
        action="append",
        default=[],
        metavar="BINDING",
        help="one setting, as 'train.steps=1000'; repeatable",
    )
    flags.add_argument(
        "--data_dir",
        type=path_flag,
        metavar="DIR",
        help="where datasets are (default: $DDR_TF_DATA, else ~/.cache/ddr_tf)",
    )


def locate(name: str) -> str | None:
    """Where a parameter, given as "Name.parameter", was last set: "gin/a.gin, line 3", or None."""
    for source, text in reversed(_sources):
        for number, line in reversed(list(enumerate(text.splitlines(), start=1))):
            if re.match(rf"\s*(?:\w+/)*(?:\w+\.)*{re.escape(name)}\s*=", line):
                return f"{source}, line {number}"
    return None


def explain(message: str) -> str:
    """Adds to a message where the first parameter that it names was set, unless it has a place already."""
    if re.match(r"--gin_param '|.+, line \d+: ", message) or re.search(r" \[\w+\.\w+: .*\]$", message):
        return message
    for match in _NAME.finditer(message):
        place = locate(match.group())
        if place:
            return f"{message} [{match.group()}: {place}]"
    return message


def find_gin_file(name: str) -> Path:
    """A gin file by its path, or by its name among those that come with ddr_tf, with or without `gin/`.

    Raises:
      UserError: If there is none, with the nearest name.
    """
    path = files.local_path(name)
    candidates = [path] if SHIPPED is None else [path, SHIPPED / path, SHIPPED.parent / path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise UserError(f"{name} is a folder; name a gin file in it.")
    raise UserError(_sentence(f"There is no gin file {name}{_nearest(path.name, _gin_files_near(path))}"))


def load(gin_files: Sequence[str], bindings: Sequence[str] = (), data_dir: str | None = None) -> None:
    """Reads gin files and then bindings into gin's state, replacing what was there, and checks names and types.

    Args:
      gin_files: Paths, or names of files that come with ddr_tf. An `include` is looked up in the folder of the file
        that includes it, and then among those; an `import` finds modules in the folder of the file, too.
      bindings: For example "train.steps = 1000". Where the type is str, quotes may be left out.
      data_dir: Value of the macro `%data_dir`; None: what the files say, else `default_data_dir()`.

    Raises:
      UserError: For a missing file, bad syntax, an unknown name (with the nearest right one), a macro that nothing
        uses or a value of the wrong type, with file and line.
    """
    gin.clear_config()
    _sources.clear()
    _reading_now.clear()
    gin.bind_parameter(f"{_DATA_DIR}/gin.macro.value", default_data_dir())
    for path in map(find_gin_file, gin_files):
        with _one_line_errors(str(path)):
            gin.parse_config_file(str(path))
    for binding in bindings:
        _parse_binding(binding)
    if data_dir is not None:
        gin.bind_parameter(f"{_DATA_DIR}/gin.macro.value", data_dir)
    with _one_line_errors("the gin files"):
        gin.finalize()
    _check_all_used()
    for name, value in _bound_values():
        _check_type(name, value)


def warn_of_no_effect(bindings: Sequence[str]) -> None:
    """Prints a warning for each binding of something that `train` does not use, as of another dataset than its own.

    What a file names with @ may be bound all the same, since a later file may have put something else in its place.

    Args:
      bindings: Those that were given to the last `load`.
    """
    used, named = _used(), set(re.findall(r"@(?:\w+[./])*(\w+)", "\n".join(text for _, text in _sources)))
    for binding in bindings:
        match = _BINDING.fullmatch(binding)
        target = match["name"].rpartition(".")[0].rpartition(".")[2] if match else ""
        if used and target in _CONFIGURABLES.keys() - used - named:
            print(
                f"warning: --gin_param '{binding}' has no effect: the run does not use {target}, but "
                f"{', '.join(sorted(used))}.",
                file=sys.stderr,
                flush=True,
            )


def registered(name: str) -> Callable[..., Any] | None:
    """The function or class that is configurable under this name; None if there is none."""
    return _CONFIGURABLES[name][0] if name in _CONFIGURABLES else None


def call(target: Callable[..., Any], **given: Any) -> Any:
    """Calls a configurable with what gin holds for it.

    Raises:
      UserError: If a parameter without a default is not set.
    """
    _check_required(target.__name__)
    _called_now.append(target.__name__)
    try:
        return gin.get_configurable(target)(**given)
    finally:
        _called_now.pop()


def is_called(name: str) -> bool:
    """Whether `call` is calling a configurable of this name now; if not, what gin holds is of something else."""
    return name in _called_now


def bound_value(name: str) -> Any:
    """What the files set "Name.parameter" to, references called.

    Raises:
      UserError: If they do not set it.
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
    defaults = {
        key: parameter.default
        for key, parameter in _parameters(name).items()
        if parameter.default is not parameter.empty
    }
    return defaults | gin.get_bindings(name)


def operative_text() -> str:
    """All parameters of what gin has called so far, defaults and imports included, as a gin file."""
    return gin.operative_config_str(max_line_length=120)


def operative() -> dict[str, str]:
    """The same as a dictionary: "Name.parameter" -> value as written in gin, with macros replaced by their values.

    The macro that --data_dir sets stays as it is, since it says where things are on a machine.
    """
    lines = gin.operative_config_str(max_line_length=1_000_000).splitlines()  # one line for each
    values = dict(line.split(" = ", 1) for line in lines if " = " in line and not line.startswith("#"))
    macros = {name: value for name, value in values.items() if "." not in name and name != _DATA_DIR}
    text_or_macro = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|%(\w+)")

    def replacement(found: re.Match[str]) -> str:
        return without_macros(macros[found[1]]) if found[1] in macros else found[0]

    def without_macros(value: str) -> str:
        return text_or_macro.sub(replacement, value)

    return {name: without_macros(value) for name, value in values.items() if name not in macros}


def is_default(name: str, value: str) -> bool:
    """Whether "Name.parameter" has this value, as `operative` writes it, where nothing sets it."""
    target, _, parameter = name.rpartition(".")
    known = _parameters(target) if target in _CONFIGURABLES else {}
    return parameter in known and repr(known[parameter].default) == value


def _included(name: str) -> Path | None:
    """The file that a path in gin means: relative to the file that includes it, else one that comes with ddr_tf."""
    if _reading_now and (path := Path(os.path.normpath(_reading_now[-1].parent / name))).is_file():
        return path
    with contextlib.suppress(UserError):
        return find_gin_file(name)
    return None


@contextlib.contextmanager
def _reading(name: str) -> Iterator[TextIO]:
    """Opens a file for gin, and remembers its text."""
    path = _included(name)
    if path in _reading_now:
        raise ValueError(f"{path} is included while it is read")
    text = path.read_text(encoding="utf-8-sig")  # Windows' Notepad puts a mark before the text
    _reading_now.append(path)
    if re.search(r"^\s*(import|from)\s", text, re.MULTILINE):
        _allow_imports_from(str(path.parent.resolve()))
    with path.open(encoding="utf-8-sig") as file:
        yield file
    _reading_now.pop()
    _sources.append((str(path), text))


# First, because gin's own reader would look up every include from the working directory. gin has a public function that
# adds a reader, but only after its own.
gin.config._FILE_READERS.insert(0, (_reading, _included))


def _allow_imports_from(folder: str) -> None:
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that nothing there hides an installed module


def _parse_binding(binding: str) -> None:
    source = f"--gin_param '{binding}'"
    with _one_line_errors(source, binding):
        gin.parse_config(_with_quotes(binding))
    _sources.append((source, binding))


def _with_quotes(binding: str) -> str:
    """The binding; where its parameter is a str and the value nothing else that it may be, the value in quotes.

    Shells take quotes away, so "FrameFolders.root=my_frames" is what users have written, and for the folder 2024
    "FrameFolders.root=2024".
    """
    match = _BINDING.fullmatch(binding)
    wanted = _wanted_types(match["name"]) if match else ()
    if not match or match["value"][:1] in ("", "@", "%", "'", '"') or str not in wanted:
        return binding
    with contextlib.suppress(ValueError, SyntaxError):
        value = ast.literal_eval(match["value"])
        if type(value) not in (int, float) or type(value) in wanted:
            return binding
    return f"{match['name']} = {match['value']!r}"


def _gin_files_near(path: Path) -> list[str]:
    folders = [path.parent] + ([] if SHIPPED is None else [SHIPPED, SHIPPED / "baselines"])
    return [file.name for folder in folders for file in folder.glob("*.gin")]


def _nearest(name: str, names: Iterable[str]) -> str:
    by_letters = {each.lower(): each for each in names}
    nearest = difflib.get_close_matches(name.lower(), by_letters, n=1, cutoff=0.5)
    return f"; did you mean {by_letters[nearest[0]]}?" if nearest else ""


def _sentence(text: str) -> str:
    """The text with exactly one full stop or question mark at its end."""
    return text if text.endswith("?") else text.rstrip(". ") + "."


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    target, not_in_gin = _CONFIGURABLES[name]
    parameters = inspect.signature(target).parameters
    return {key: value for key, value in parameters.items() if key not in not_in_gin}


@contextlib.contextmanager
def _one_line_errors(source: str, text: str | None = None) -> Iterator[None]:
    """Turns what gin raises into a `UserError` of one line that names the place and the nearest right name.

    Args:
      source: A description of what is read.
      text: What is read; None: a file, whose line gin's error names.
    """
    try:
        yield
    except (ValueError, SyntaxError, TypeError, AttributeError, ImportError, OSError, tokenize.TokenError) as error:
        place = re.search(r'In file ".*", line (\d+)|\(.*, line (\d+)\)', str(error))
        line = text
        if place and _reading_now:
            path, number = _reading_now[-1], int(place[1] or place[2])
            source, line = f"{path}, line {number}", path.read_text(encoding="utf-8-sig").splitlines()[number - 1]
        message = _forgotten(line) if isinstance(error, SyntaxError) else None
        raise UserError(_sentence(f"{source}: {message or _explained(error)}")) from error


def _explained(error: Exception) -> str:
    """A gin error in one line, with the nearest right name where a name is wrong."""
    first, *details = str(error).splitlines() or [""]
    message = re.sub(r" \((.*)line \d+\)$", "", first).rstrip(". ")
    if match := re.match(r"No configurable matching (?:reference )?'@?([\w/.]+)(?:\(\))?'", message):
        return message + _nearest(match[1].split(".")[-1], _CONFIGURABLES)
    if match := re.match(r"Configurable '(?:.*\.)?(\w+)' doesn't have a parameter named '(\w+)'", message):
        return message + _nearest(match[2], _parameters(match[1]))
    if match := re.match(r"No bindings specified for '(\w+)/gin.macro'", message):
        return f"The macro %{match[1]} has no value"
    if isinstance(error, tokenize.TokenError):
        return "A bracket or a quotation mark is not closed"
    if isinstance(error, AttributeError) and details:  # gin's answer to an include that does not exist
        return "Cannot read the included file: " + details[-1].strip()
    return message


def _forgotten(line: str | None) -> str | None:
    """What to say where quotes or @ are missing around the value of a known parameter; None: nothing like that."""
    line = re.sub(r"\s#.*", "", line or "")
    if included := re.fullmatch(r"\s*include\s+([^'\"\s]+)\s*", line):
        return f"The name of an included file needs quotes; write include '{included[1]}'"
    match = _BINDING.fullmatch(line)
    wanted = _wanted_types(match["name"]) if match else ()
    if match and match["name"] == _DATA_DIR:
        return f"The folder of datasets is given with --data_dir {match['value']}".rstrip()
    if not wanted:
        return None
    if not match["value"]:
        return f"{match['name']} is given no value"
    name, value = match["name"], match["value"]
    if value[0] in "'\"":
        return f"{name}: backslashes are read as in Python; write r{value}, or / instead" if "\\" in value else None
    if Callable in wanted:
        known = (
            value if value in _CONFIGURABLES else (difflib.get_close_matches(value, _CONFIGURABLES, n=1) or [value])[0]
        )
        return f"{name} must be a name with @; write {name} = @{known}"
    if str in wanted:
        return f"{name} is text and needs quotes; write {name} = '{value}'"
    return f"{name} must be {_described(wanted)}, got {value}"


def _check_all_used() -> None:
    """Raises UserError for "steps = 10", a macro to gin, and "a/train.steps = 10", of a scope, that nothing uses."""
    everything = "\n".join(text for _, text in _sources)
    macros, scopes = set(re.findall(r"%([\w/]+)", everything)) | {_DATA_DIR}, set(re.findall(r"@(\w+)/", everything))
    for source, text in _sources:
        for number, line in enumerate(text.splitlines(), start=1):
            place = source if source.startswith("--gin_param") else f"{source}, line {number}"
            match = re.match(r"\s*([\w/]+)\s*=(?!=)", line)
            if match and match[1] not in macros:
                raise UserError(_sentence(f"{place}: nothing uses {match[1]}{_parameter_like(match[1])}"))
            match = re.match(r"\s*(\w+)/([\w.]+\.\w+)\s*=(?!=)", line)
            if match and match[1] not in scopes and not match[2].endswith("gin.macro.value"):
                raise UserError(f"{place}: nothing uses the scope {match[1]}; write {match[2]}.")


def _used() -> set[str]:
    """Names of the configurables that `train` uses, directly or not; empty if it is not known which dataset it uses."""
    values = dict(_bound_values())
    if not isinstance(values.get("train.sequences"), gin.config.ConfigurableReference):
        return set()
    used, new = set(), ["train"]
    while new:
        target = new.pop()
        used.add(target)
        for name, parameter in _parameters(target).items():
            value = values.get(f"{target}.{name}", parameter.default)
            selector = getattr(value, "selector", getattr(value, "__name__", ""))
            if (named := selector.rpartition(".")[2]) in _CONFIGURABLES.keys() - used:
                new.append(named)
    return used


def _parameter_like(name: str) -> str:
    """A hint at the parameter that a name without a dot may mean."""
    parameters = {parameter: f"{target}.{parameter}" for target in _CONFIGURABLES for parameter in _parameters(target)}
    for target in ("DDR", "train"):  # what most people mean; `train` wins over `DDR`
        if target in _CONFIGURABLES:
            parameters |= {parameter: f"{target}.{parameter}" for parameter in _parameters(target)}
    nearest = difflib.get_close_matches(name, parameters, n=1)
    return f"; did you mean {parameters[nearest[0]]}?" if nearest else f"; write %{name} where its value belongs"


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


def _wanted_types(name: str) -> tuple[Any, ...]:
    """The types that a parameter may have, as its annotation says; empty if it is unknown or has none."""
    target_name, _, parameter = name.rpartition(".")
    if target_name.rpartition(".")[2] not in _CONFIGURABLES:
        return ()
    target = _CONFIGURABLES[target_name.rpartition(".")[2]][0]
    wanted = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target).get(parameter)
    if wanted is Any:
        return (type(inspect.signature(target).parameters[parameter].default),)
    is_union = isinstance(wanted, types.UnionType) or typing.get_origin(wanted) is typing.Union
    kinds = typing.get_args(wanted) if is_union else () if wanted is None else (wanted,)
    return tuple(Callable if typing.get_origin(kind) is Callable else kind for kind in kinds)


def _check_made(name: str, reference: str) -> None:
    """Raises UserError for a parameter that names something which makes the wrong thing, as train.model = @Puppets."""
    target_name, _, parameter = name.rpartition(".")
    hint = typing.get_type_hints(_CONFIGURABLES[target_name][0])[parameter]
    makers = [kind for kind in (hint, *typing.get_args(hint)) if typing.get_origin(kind) is Callable]
    wanted = typing.get_args(makers[0])[1]
    right = {each for each, (made, _) in _CONFIGURABLES.items() if inspect.isclass(made) and issubclass(made, wanted)}
    if reference not in right:
        known = ", ".join(f"@{each}" for each in sorted(right)) or f"a {wanted.__name__}"
        raise UserError(explain(f"{name} must be one of {known}; got @{reference}."))


def _described(kinds: Iterable[type]) -> str:
    return " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)


def _check_type(name: str, value: Any) -> None:
    wanted = _wanted_types(name)
    if Callable in wanted:
        if value is None and type(None) in wanted:
            return
        if not isinstance(value, gin.config.ConfigurableReference) or value.evaluate:
            raise UserError(explain(f"{name} must be a name with @ and without (), as @Puppets; got {value!r}."))
        reference = value.selector.rpartition(".")[2]
        _check_made(name, reference)
        _check_required(reference)
        return
    if not wanted or not set(wanted) <= {int, float, bool, str, tuple, type(None)}:
        return  # only the code itself can check such a value
    if not (type(value) in wanted or (type(value) is int and float in wanted)):
        raise UserError(explain(f"{name} must be {_described(wanted)}, got {value!r}."))
    if isinstance(value, str) and re.search(r"[\x00-\x1f]", value):
        raise UserError(
            explain(f"{name} holds a control character; backslashes are read as in Python, so write r'..'.")
        )
