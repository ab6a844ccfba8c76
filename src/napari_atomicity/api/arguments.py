"""Checks of the arguments of public functions: once, where a caller passes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache, wraps
from importlib import import_module
from os import PathLike
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

import numpy as np
from annotated_types import Ge, Gt, Interval

from ..core.errors import AtomicityError
from ..core.settings import settings_of
from ..detection.settings import DetectionSettings
from ..pipeline.run_request import RunRequest

P = ParamSpec("P")
R = TypeVar("R")


def _one_of(setting: str) -> tuple[Any, str]:
    """Return the type of a setting of a run with choices, and what it takes."""
    choices = tuple(settings_of(RunRequest)[setting].choices)
    return Literal[choices], "one of " + ", ".join(f'"{choice}"' for choice in choices)


_POSITIVE = Annotated[float, Gt(0)]
_PROBABILITY = Annotated[float, Interval(ge=0, le=1)]
_TYPES: dict[str, tuple[Any, str]] = {
    "pixel_size_nm": (_POSITIVE | None, "a positive number in nm, such as 0.036"),
    "pixel_size_error": (Annotated[float, Ge(0)], "a number in per cent that is not negative"),
    "device": _one_of("device"),
    "umap": (bool, "True or False"),
    "symmetries": (bool, "True or False"),
    "keep_known": (bool, "True or False"),
    "keep_ratios": (bool, "True or False"),
    "labels": _one_of("labels"),
    "method": _one_of("ratios"),
    "ratios": _one_of("ratios"),
    "pseudo_labels": (Literal["combined", "diameter"], 'one of "combined", "diameter"'),
    "average_frames": (
        Annotated[int, Ge(1)] | Literal["all"] | None,
        'a number of frames, "all" or None',
    ),
    "epochs": (Annotated[int, Ge(1)] | None, "a positive whole number or None"),
    "seed": (Annotated[int, Ge(0)], "a whole number that is not negative"),
    "workers": (Annotated[int, Ge(1)] | None, "a positive whole number or None"),
    "scheduler": (str | None, "the address of a dask scheduler, or None"),
    "precision": (_PROBABILITY | None, "a number from 0 to 1, or None"),
    "threshold": (_PROBABILITY | None, "a number from 0 to 1, or None"),
    "start": (str, 'a text: "default", "scratch", or a model'),
    "label": (str, "a text: a class of the model, or another label"),
}
_PATHS = {"out", "folder"}
_OPTIONAL_PATHS = {"reference", "session", "earlier_run"}
_TEXTS = {"known", "channels"}
_NO_IMAGES = bool | int | float | complex | bytes | Mapping | set
_SOURCE = (
    "a path, an image in memory (Micrograph, array, HyperSpy signal, xarray.DataArray), or a list "
    "of them"
)


def checks_arguments(
    # dataclass of the argument ``settings``, such as detection.settings.DetectionSettings
    settings: str = "",
    options: str = "",  # dataclass of further keyword arguments
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check the arguments of a function by their names before it runs.

    Numbers of NumPy and torch become those of Python, and a dictionary becomes the dataclass of
    the settings. The function then raises a TypeError or ValueError that names the argument, says
    what it takes, and what it got.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        further = next((n for n, p in signature.parameters.items() if p.kind is p.VAR_KEYWORD), "")

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            for name, value in bound.arguments.items():
                if name == further:
                    if options:
                        _check_names(value, _class(options))
                    bound.arguments[name] = {n: _checked(n, v) for n, v in value.items()}
                elif name == "settings" and settings:
                    bound.arguments[name] = _settings(value, _class(settings), name)
                else:
                    bound.arguments[name] = _checked(name, value)
            return function(*bound.args, **bound.kwargs)

        return checked

    return decorate


def _class(path: str) -> type:
    """Import a class of the package, only when an argument needs it."""
    module, _, name = path.rpartition(".")
    found: type = getattr(import_module(f"..{module}", __package__), name)
    return found


def _checked(name: str, value: Any) -> Any:
    """Return the value of an argument, as a type of Python; raise an error if it is not valid."""
    is_text = isinstance(value, str)
    if name in _TYPES:
        return _of_type(name, value)
    if name in _TEXTS:
        return _texts(name, value)
    if name == "detection":
        return _settings(value, DetectionSettings, name)
    no_image = value is None or isinstance(value, _NO_IMAGES) or (is_text and not value.strip())
    if name == "source" and no_image:
        raise _error(name, _SOURCE, value, is_text)
    if name in _PATHS and not _is_path(value):
        raise _error(name, "the path of a file or folder", value, is_text)
    if name == "samples" and not (value is None or isinstance(value, Mapping) or _is_path(value)):
        raise _error(name, "the path of a table of samples, a mapping or None", value, is_text)
    if name in _OPTIONAL_PATHS and not (value is None or _is_path(value)):
        raise _error(name, "a text, a path or None", value, is_text)
    if name == "model" and not (_is_path(value) or hasattr(value, "card")):
        what = "the name of a model, the path of a model file, or a loaded model"
        raise _error(name, what, value, is_text)
    if name == "progress" and not (value is None or isinstance(value, bool) or callable(value)):
        raise _error(name, "a function, True, False or None", value, False)
    if name == "stop" and not (value is None or callable(value)):
        raise _error(name, "a function or None", value, False)
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    """Return one text, or several, as a tuple."""
    try:
        texts = (value,) if isinstance(value, str) else tuple(value)
    except TypeError:
        texts = (None,)
    if isinstance(value, Mapping) or not all(isinstance(text, str) for text in texts):
        raise _error(name, "a text or a list of texts", value, False)
    return texts


def check_kind(name: str, values: Iterable[Any], kinds: tuple[type, ...], what: str) -> list[Any]:
    """Return the values of an argument as a list.

    Raises `TypeError` if one is none of the kinds; ``what`` says what the argument takes.
    """
    try:
        found = list(values)
    except TypeError:
        raise _error(name, what, values, False) from None
    wrong = [one for one in found if not isinstance(one, kinds)]
    if wrong:
        raise _error(name, what, wrong[0], False)
    return found


def _of_type(name: str, value: Any) -> Any:
    """Return a value of a type of `_TYPES`."""
    from pydantic import ValidationError

    _, what = _TYPES[name]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    try:
        return _validator(name).validate_python(value)
    except ValidationError as error:
        kinds = {one["type"] for one in error.errors()} - {"none_required"}
        is_choice = "literal_error" in kinds and isinstance(value, str)
        out_of_range = any(not kind.endswith(("_type", "literal_error")) for kind in kinds)
        raise _error(name, what, value, is_choice or out_of_range) from None


@lru_cache
def _validator(name: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(_TYPES[name][0], config=ConfigDict(strict=True, allow_inf_nan=False))


def _settings(value: Any, kind: type, argument: str) -> Any:
    """Return settings from a dataclass, a dictionary of its fields, or None."""
    if value is None or isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        what = f"a {kind.__name__}, a dictionary of its fields, or None"
        raise _error(argument, what, value, False)
    _check_names(value, kind, argument)
    plain = {n: v.item() if isinstance(v, np.generic) else v for n, v in value.items()}
    for name, one in plain.items():
        kinds = _number_kinds(kind, name)
        if kinds and (not isinstance(one, kinds) or (bool not in kinds and isinstance(one, bool))):
            raise _error(f"{argument}[{name!r}]", f"a {kinds[0].__name__}", one, False)
    try:
        return kind(**plain)
    except AtomicityError as error:
        raise ValueError(f"{argument}: {error}") from None


def _number_kinds(kind: type, name: str) -> tuple[type, ...]:
    """Return the types of a setting whose default is a number or a flag; none for others."""
    default = kind.__dataclass_fields__[name].default  # type: ignore[attr-defined]
    if isinstance(default, bool):
        return (bool,)
    if isinstance(default, float):
        return (float, int)
    return (int,) if isinstance(default, int) else ()


def _check_names(values: Mapping[str, Any], kind: type, owner: str = "") -> None:
    """Raise a TypeError if a name is no field of a dataclass."""
    known = [one.name for one in fields(kind)] if is_dataclass(kind) else []
    for name in values:
        if name not in known:
            raise TypeError(
                f"{owner + ' has' if owner else 'there is'} no argument {name!r}: the arguments "
                f"are {', '.join(known)}"
            )


def _is_path(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else isinstance(value, PathLike)


def _error(name: str, what: str, value: Any, is_value: bool) -> TypeError | ValueError:
    """Return an error that names an argument, what it takes, and what it got."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
    kind = ValueError if is_value else TypeError
    return kind(f"{name} must be {what}, not {shown} ({type(value).__name__})")
