"""Options of a command that come from the fields of a dataclass."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import typer

from ..core.errors import AtomicityError, SettingError
from ..core.settings import Setting, default_of, settings_of
from ..io.files import read_document
from ..io.readers.read_limits import ReadLimits, read_limits, set_read_limits
from .common import print_errors_only

# ---- options of several commands that differ in one of them
OWN_HELP = {
    "workers": {
        "batch": "Number of processes on this machine. Default: one per core.",
        "train": "Number of processes on this machine. Default: one per core with --simulate, "
        "otherwise 1.",
        "atoms": "Number of processes on this machine. Default: one per 10 images, at most one per "
        "core.",
    },
    "overwrite": {
        "batch": "Analyse all images again, and replace results of other images.",
        "adapt": "Replace an existing model or report, otherwise refused.",
        "add": "Replace an existing model, otherwise refused.",
        "train": "Replace an existing model, otherwise refused.",
        "pack": "Replace an existing pack, otherwise refused.",
        "simulate": "Replace another simulation, otherwise refused.",
        "benchmark": "Replace another benchmark or existing scores, otherwise refused.",
        "validate": "Replace results of other settings or data, otherwise refused.",
    },
}
"""Parameter → command → help, where it is not that of the other commands."""


def _with_own_help(parameter: inspect.Parameter, command: str) -> inspect.Parameter:
    """Return a parameter with the help that it has in a command."""
    own = OWN_HELP.get(parameter.name, {}).get(command)
    if own is None:
        return parameter
    kind, about = get_args(parameter.annotation)
    about = copy.copy(about)
    about.help = own
    return parameter.replace(annotation=Annotated[kind, about])


# ---- options of every command: a file of settings, and quiet output

SHARED = frozenset({"settings", "quiet"})
"""Parameters that every command has."""
_SETTINGS = "--settings"
_NOT_GIVEN: tuple[Any, ...] = (None, "", False, [], {})


def apply_settings_file(context: typer.Context, path: Path | None) -> Path | None:
    """Use the values of a settings file for options that are not on the command line.

    Raises `typer.BadParameter` if the file cannot be read, or has an unknown key or a wrong value.
    """
    if path is not None and not context.resilient_parsing:
        known = dict(_keys(context.command.params))
        values = _select(_read(path), path, context)
        context.default_map = {}
        for key, value in values.items():
            parameter = known.get(key.replace("-", "_"))
            if parameter is None:
                raise _error(path, f"{key}: atomicity {context.info_name} has no such option")
            if value is not None:
                context.default_map[parameter.name] = _text(value, parameter, key, path, context)
    return path


def share_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every command to a command."""
    signature = inspect.signature(command, eval_str=True)
    new = {name: about for name, about in _named_options() if name not in signature.parameters}

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        command(**{name: value for name, value in arguments.items() if name not in new})

    parameters = [
        _with_own_help(one, command.__name__).replace(kind=one.KEYWORD_ONLY)
        for one in (*signature.parameters.values(), *new.values())
    ]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def name_settings_file(context: Any, error: typer.BadParameter) -> None:
    """Name the settings file in an error if a value of the file has caused it."""
    hints = [error.param_hint] if isinstance(error.param_hint, str) else error.param_hint or ()
    names = {hint.removeprefix("--").replace("-", "_") for hint in hints}
    if names & (context.default_map or {}).keys():
        error.message = f"{context.params['settings']}: {error.message}"


def _named_options() -> Iterator[tuple[str, inspect.Parameter]]:
    path = typer.Option(
        _SETTINGS,
        help="TOML file with values of options, or the run.json of an earlier run. Options on the "
        "command line win.",
        callback=apply_settings_file,
        is_eager=True,
    )
    quiet = typer.Option(
        "--quiet", help="Print errors only.", callback=print_errors_only, is_eager=True
    )
    kind = inspect.Parameter.KEYWORD_ONLY
    for name, default, annotation in (
        ("settings", None, Annotated[Path | None, path]),
        ("quiet", False, Annotated[bool, quiet]),
    ):
        yield name, inspect.Parameter(name, kind, default=default, annotation=annotation)


def _keys(parameters: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the key and the parameter of each option and argument."""
    for one in parameters:
        options = [text for text in one.opts if text.startswith("--")]
        if _SETTINGS in options or "--help" in options:
            continue
        for text in options or [one.name]:
            yield text.removeprefix("--").replace("-", "_"), one


def _read(path: Path) -> dict[str, Any]:
    """Read a TOML or JSON file."""
    try:
        text = read_document(path).decode("utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise _error(path, error.strerror or str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _error(path, str(error)) from None
    if not isinstance(values, dict):
        raise _error(path, "there are no settings")
    return values


def _select(values: dict[str, Any], path: Path, context: typer.Context) -> dict[str, Any]:
    """Return the values for a command: flat keys, and its table."""
    if isinstance(values.get("parameters"), dict):
        return _of_record(values, path, context)
    commands = getattr(context.find_root().command, "commands", {})
    chosen = {}
    for key, value in values.items():
        if not isinstance(value, dict):
            chosen[key] = value
        elif key not in commands:
            raise _error(path, f"{key}: there is no such command")
    own = values.get(context.info_name or "")
    return {**chosen, **(own if isinstance(own, dict) else {})}


_RECORDS_OF_THEIR_OWN = {"atoms", "compare", "export"}
"""Kinds of records whose settings have other meanings, or none, in other commands."""


def _of_record(record: Mapping[str, Any], path: Path, context: typer.Context) -> dict[str, Any]:
    """Return the parameters and the images of a ``run.json`` that a command has options for.

    Others that have a value are named. A list is text with commas for an option that is given one
    time.
    """
    kind, command = record.get("kind", ""), context.info_name
    if kind != command and not {kind, command}.isdisjoint(_RECORDS_OF_THEIR_OWN):
        advice = " Take the command from Browse, ⋯ ▸ Copy as" if kind == "export" else ""
        raise _error(path, f"this is the record of `{kind}`, not of `{command}`.{advice}")
    parameters = context.command.params
    values: dict[str, Any] = {}
    for key, value in record["parameters"].items():
        values |= value if isinstance(value, dict) else {key: value}
    images = record.get("images")
    entries = images if isinstance(images, list) else ()
    paths = [one["path"] for one in entries if isinstance(one, dict) and "path" in one]
    for one in parameters:
        if one.nargs == -1 and paths and one.name not in record["parameters"]:
            values[one.name] = paths
        elif isinstance(value := values.get(one.name), list) and not _takes_several(one):
            values[one.name] = ",".join(map(str, value))
    known = dict(_keys(parameters))
    others = [key for key in values if key.replace("-", "_") not in known]
    if unused := [key for key in others if values[key] not in _NOT_GIVEN]:
        command = f"atomicity {context.info_name}"
        typer.echo(f"{path}: not used by {command}: {', '.join(unused)}", err=True)
    return {key: value for key, value in values.items() if key not in others}


def _takes_several(parameter: Any) -> bool:
    return parameter.nargs == -1 or bool(getattr(parameter, "multiple", False))


def _text(value: Any, parameter: Any, key: str, path: Path, context: typer.Context) -> Any:
    """Check a value and return it as on the command line: text, a list of texts, or a flag."""
    is_flag = getattr(parameter, "is_flag", False)
    is_list = _takes_several(parameter)
    texts = value if is_list and isinstance(value, list) else [value]
    for one in texts:
        if isinstance(one, bool) != is_flag or not isinstance(one, str | int | float):
            wanted = "true or false" if is_flag else "a number or text"
            raise _error(path, f"{key} must be {wanted}, not {one!r}")
        if one == "":
            raise _error(path, f"{key} is empty")
    if is_flag:
        return value
    chosen = [str(one) for one in texts] if is_list else str(value)
    try:
        parameter.process_value(context, chosen)
    except typer.BadParameter as error:
        raise _error(path, f"{key}: {error.message}") from None
    return chosen


def _error(path: Path, text: str) -> typer.BadParameter:
    return typer.BadParameter(f"{path}: {text}", param_hint=_SETTINGS)


def options_of(
    settings: type, *left_out: str, **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the parameter ``request`` of a command by options for the fields of a dataclass.

    The command receives a function that builds the dataclass from the options, and from the
    other fields that it is called with.
    """
    options = {
        option.name: option.replace(default=defaults.get(option.name, option.default))
        for option in _options(settings)
        if option.name not in left_out
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for one in signature.parameters.values():
            parameters += options.values() if one.name == "request" else [one]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            values = {name: arguments.pop(name) for name in options}
            command(request=functools.partial(_build, settings, values), **arguments)

        by_name = [one.replace(kind=one.KEYWORD_ONLY) for one in parameters]
        run.__signature__ = signature.replace(parameters=by_name)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def reads_images(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `ReadLimits` to a command, and apply them while it runs."""
    signature, options = inspect.signature(command, eval_str=True), list(_options(ReadLimits))

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        values = {option.name: arguments.pop(option.name) for option in options}
        before = read_limits()
        set_read_limits(_build(ReadLimits, values))
        try:
            command(**arguments)
        finally:
            set_read_limits(before)

    parameters = [*signature.parameters.values(), *options]
    by_name = [one.replace(kind=one.KEYWORD_ONLY) for one in parameters]
    run.__signature__ = signature.replace(parameters=by_name)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in by_name}
    return run


def _options(settings: type) -> Iterator[inspect.Parameter]:
    hints, known = get_type_hints(settings), settings_of(settings)
    for name, hint in hints.items():
        if is_dataclass(hint) and isinstance(hint, type):
            yield from _options(hint)
        elif (
            (about := known.get(name))
            and about.option is not None
            and (about.label or about.option)
        ):
            default = default_of(settings, name)
            yield inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if default is MISSING else default,
                annotation=Annotated[_kind(about, hint), _option(about, default)],
            )


def _kind(about: Setting, hint: Any) -> Any:
    if about.choices:
        return Literal[tuple(about.choices)]
    if hint == tuple[str, ...]:  # an option that may be given several times
        return list[str]
    return Path | None if about.is_path else hint


def _option(about: Setting, default: Any) -> Any:
    text = about.help
    if default is None and about.default_text:
        text += f" Default: {about.default_text}."
    names = (about.option or "").split()
    low = about.above if about.min is None else about.min
    return typer.Option(*names, help=text, min=low, max=about.max)


def _build(settings: type, values: dict[str, Any], **others: Any) -> Any:
    """Build a dataclass from the values of its options and of nested ones.

    Raises `typer.BadParameter` if the values do not fit together.
    """
    hints, known = get_type_hints(settings), settings_of(settings)
    for name, hint in hints.items():
        if is_dataclass(hint) and isinstance(hint, type):
            others[name] = _build(hint, values)
        elif name in known and name in values:
            value = values[name]
            if known[name].is_path and value is not None:
                if not value.exists():
                    raise _bad_value(f"{value}: there is no such file", [name])
                value = str(value)
            others[name] = tuple(value) if hint == tuple[str, ...] else value
    try:
        return settings(**others)
    except SettingError as error:
        raise _bad_value(str(error), error.names) from None
    except AtomicityError as error:
        raise typer.BadParameter(str(error)) from None


def _bad_value(message: str, names: Iterable[str]) -> typer.BadParameter:
    """Return an error that names the options of these fields."""
    hint = ["--" + name.replace("_", "-") for name in names]
    return typer.BadParameter(message, param_hint=hint)
