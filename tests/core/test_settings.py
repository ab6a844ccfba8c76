"""Settings that describe themselves: validation, defaults, and which classes have a form."""

from dataclasses import dataclass

import pytest

from napari_atomicity.atoms.dispersion import DispersionSettings
from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.settings import check_settings, default_of, setting, settings_of
from napari_atomicity.detection import DetectionSettings
from napari_atomicity.pipeline.adaptation.settings import AdaptRequest
from napari_atomicity.pipeline.run_request import AtomRequest, RunRequest
from napari_atomicity.statistics.points.loading_settings import LoadingSettings
from napari_atomicity.tracking import MovieSettings
from napari_atomicity.training.request import SimulationSource, TrainRequest

DESCRIBED = (
    AdaptRequest, AtomRequest, DetectionSettings, DispersionSettings, LoadingSettings,
    MovieSettings, RunRequest, SimulationSource, TrainRequest,
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    size_nm: float = setting(0.5, "Size", "Size of a thing.", unit="nm", above=0, max=2)
    share: float | None = setting(None, "Share", "A share.", min=0, max=1, factor=100, unit="%")
    kind: str = setting("a", "Kind", "A kind.", choices={"a": "first", "b": "second"})
    is_on: bool = setting(True, "On", "Whether it is on.")

    def __post_init__(self):
        check_settings(self)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size_nm": 0.0}, "size nm must be above 0, not 0. Size of a thing. Default: 0.5 nm"),
        ({"size_nm": 3.0}, "at most 2"),
        ({"size_nm": float("nan")}, "a finite number"),
        ({"share": -0.5}, "at least 0"),
        ({"kind": "c"}, "one of a, b, not c. A kind. Default: first"),
    ],
)
def test_values_out_of_range_are_refused(wrong, message):
    with pytest.raises(AtomicityError, match=message):
        Example(**wrong)


def test_a_tooltip_gives_the_default():
    known = settings_of(Example)
    assert known["size_nm"].tooltip(0.5) == "Size of a thing. Default: 0.5 nm."
    assert known["share"].tooltip(0.25) == "A share. Default: 25 %."
    assert known["is_on"].tooltip(True) == "Whether it is on. Default: yes."


@pytest.mark.parametrize("kind", DESCRIBED)
def test_defaults_are_valid_and_described(kind):
    for name, about in settings_of(kind).items():
        default = default_of(kind, name)
        assert about.help.endswith(".")
        if isinstance(default, int | float | str):
            assert not about.choices or default in about.choices
            assert not about.problem(default)
