"""Settings that describe themselves.

The fields of a dataclass of settings carry a `Setting`. Validation, documentation, the form in the
window (`gui.controls.settings_form`) and the options of the command line (`cli.options`) come from
it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from .errors import SettingError

T = TypeVar("T")

GROUP_DISTANCE_NM = 0.3
"""Distance in nm up to which two atoms belong to one group: 8 % above the nearest-neighbour
distance in platinum."""


MAX_SEED = 2**31 - 1
"""Largest seed that all libraries take."""


@dataclass(frozen=True)
class Setting:
    """Description of a setting."""

    label: str  # label in the form; without it, the setting is in no form
    help: str  # explanation: tooltip in the form, and help on the command line
    unit: str = ""  # unit, shown after a number in the form
    # min, max: range of valid values
    min: float | None = None
    max: float | None = None
    above: float | None = None  # limit below all valid values
    # range in the form, in displayed units; default: the valid range
    form_range: tuple[float, float] | None = None
    decimals: int = 0  # number of decimals in the form
    step: float | None = None  # step in the form; default: ten units of the last decimal
    factor: float = 1  # displayed number per unit of the value, 100 for percent
    # text that the form shows in place of the lowest number, which is None if the setting is
    # optional; or text of a check box whose label is in a separate column
    text: str = ""
    default_text: str = ""  # text of the default value if it is not the value itself
    choices: Mapping[str, str] = field(default_factory=dict)  # valid values → text in the form
    is_path: bool = False
    # declaration on the command line if it is not the name of the field, or if the setting has no
    # label; several names are separated by spaces. None: no option
    option: str | None = ""
    key: str = ""  # key under which the window saves the value; not saved if empty

    @property
    def suffix(self) -> str:
        """The unit with a space before it, or nothing."""
        return f" {self.unit}" if self.unit else ""

    def tooltip(self, default: Any) -> str:
        """Return the help with the default value."""
        if self.default_text or default is None:
            text = self.default_text or self.text
        elif isinstance(default, bool):
            text = "yes" if default else "no"
        elif self.choices:
            text = self.choices[default]
        else:
            text = f"{self.factor * default:g}{self.suffix}"
        return f"{self.help} Default: {text}."

    def problem(self, value: Any) -> str:
        """Return which condition a value violates; empty if it is valid."""
        if self.choices:
            return "" if value in self.choices else f"one of {', '.join(self.choices)}"
        if not isinstance(value, int | float) or isinstance(value, bool):
            return ""
        if not math.isfinite(value):
            return "a finite number"
        if self.above is not None and value <= self.above:
            return f"above {self.above:g}"
        if self.min is not None and value < self.min:
            return f"at least {self.min:g}"
        if self.max is not None and value > self.max:
            return f"at most {self.max:g}"
        return ""


def setting(
    default: Any,  # `dataclasses.MISSING` if there is none
    label: str,  # in the form; empty for none
    help: str,  # explanation
    **description: Any,
) -> Any:
    """Define a field of a dataclass with a description."""
    return field(default=default, metadata={"setting": Setting(label, help, **description)})


def settings_of(settings: type) -> dict[str, Setting]:
    """Return the descriptions of the fields of a dataclass."""
    return {f.name: f.metadata["setting"] for f in fields(settings) if "setting" in f.metadata}


def documented(settings: type[T]) -> type[T]:
    """Add the explanations of the fields to the docstring of a dataclass."""
    lines = [inspect.cleandoc(settings.__doc__ or ""), "", "Parameters", "----------"]
    for name, about in settings_of(settings).items():
        default = default_of(settings, name)
        end = "" if default is MISSING else f", default {default!r}"
        lines += [f"{name} : {settings.__annotations__[name]}{end}", f"    {about.help}"]
    settings.__doc__ = "\n".join(lines)
    return settings


def default_of(settings: type, name: str) -> Any:
    """Return the default value of a field; `dataclasses.MISSING` if there is none."""
    return settings.__dataclass_fields__[name].default  # type: ignore[attr-defined]


def check_settings(settings: Any) -> None:
    """Check the values of settings against the descriptions of their fields.

    Raises `SettingError` if a value is out of range, or none of the choices.
    """
    for name, about in settings_of(type(settings)).items():
        value = getattr(settings, name)
        problem = "" if value is None else about.problem(value)
        if problem:
            shown = f"{value:g}" if isinstance(value, float) else value
            raise SettingError(
                f"{name.replace('_', ' ')} must be {problem}, not {shown}",
                [name],
                advice=about.tooltip(default_of(type(settings), name)).rstrip("."),
            )


def make_absolute(settings: Any, *names: str) -> None:
    """Make paths of settings absolute, for processes that have another working folder."""
    for name in names:
        if (path := getattr(settings, name)) is not None:
            object.__setattr__(settings, name, str(Path(path).absolute()))


# ---- settings of several commands and docks
def model_setting() -> Any:
    """Define the model that a run uses."""
    return setting("default", "Model", "Name of an available model, or a .safetensors file.")


CPU_BFLOAT16 = "cpu-bf16"
"""Name of the processor as a device that computes a network in bfloat16."""


def device_setting(with_bfloat16: bool = False) -> Any:
    """Define the device on which a network runs, also in short numbers on a processor."""
    names = {"auto": "automatic", "cpu": "CPU", "cuda": "GPU (CUDA)", "mps": "GPU (Apple)"}
    description = "Device of the network."
    if with_bfloat16:
        names[CPU_BFLOAT16] = "CPU, 16-bit numbers"
        description += (
            " With cpu-bf16, the processor computes in 16-bit numbers (bfloat16) if it has them: "
            "faster for large runs; labels that are close calls may differ."
        )
    return setting("auto", "Device", description, choices=names, key="device")


def pixel_size_setting() -> Any:
    """Define a pixel size that replaces that of the files."""
    return setting(
        None,
        "Pixel size",
        "Pixel size in nm; replaces that of the files.",
        unit="nm",
        min=1e-4,
        max=1e4,
        form_range=(0.0, 1e4),
        decimals=5,
        step=0.001,
        text="from the files",
    )


def samples_setting() -> Any:
    """Define a table of samples."""
    return setting(
        None,
        "Samples",
        "Table of samples, with the columns image (name or pattern), sample, and further ones such "
        "as time or temperature. Without it, the images of a folder are a sample.",
        is_path=True,
        option="--samples",
    )


def rois_setting(objects: str) -> Any:
    """Define the regions that are analysed; `objects` outside are left out."""
    return setting(
        None,
        "Regions",
        f"Regions to analyse, in the formats of outlines: {objects} outside are left out.",
        is_path=True,
        option="--rois",
    )


def seed_setting(key: str = "") -> Any:
    """Define the seed of the random number generators."""
    return setting(
        0,
        "Seed",
        "Seed of the random number generators. The same seed gives the same results.",
        min=0,
        max=MAX_SEED,
        step=1,
        key=key,
    )
