"""Options of a command that come from the fields of a dataclass."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from ..core.errors import AtomicityError, SettingError
from ..core.settings import Setting, default_of, settings_of
from ..io.read_limits import ReadLimits, read_limits, set_read_limits


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
