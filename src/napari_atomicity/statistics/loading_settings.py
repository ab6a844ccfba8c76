"""Metal and support of the metal loading in per cent by weight."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.atomic_weights import ATOMIC_WEIGHTS_G_MOL
from ..core.settings import check_settings, documented, setting

NO_METAL = "none"


@documented
@dataclass(frozen=True)
class LoadingSettings:
    """Metal and support, for the metal loading in per cent by weight."""

    metal: str = setting(
        NO_METAL,
        "Metal",
        "Metal of the single atoms, for the metal loading in wt%.",
        choices={
            NO_METAL: "not stated",
            **{metal: f"{metal} ({mass:g} g/mol)" for metal, mass in ATOMIC_WEIGHTS_G_MOL.items()},
        },
        key="loading/metal",
    )
    support_thickness_nm: float | None = setting(
        None,
        "Support thickness",
        "Thickness of the support in nm along the beam, for the metal loading in wt%.",
        unit="nm",
        above=0,
        form_range=(0, 1000),
        decimals=1,
        step=0.5,
        text="unknown",
        key="loading/thickness",
    )
    support_density_g_cm3: float = setting(
        2.0,
        "Support density",
        "Density of the support in g/cm³, for the metal loading in wt%.",
        unit="g/cm³",
        above=0,
        max=30,
        form_range=(0.01, 30),
        decimals=2,
        step=0.1,
        default_text="2 g/cm³, amorphous carbon",
        option="--support-density --support-density-g-cm3",
        key="loading/density",
    )
    support_thickness_uncertainty: float = setting(
        0.0,
        "Uncertainty",
        "Relative standard uncertainty of the thickness times the density of the support. The "
        "interval of the loading in wt% includes it.",
        unit="%",
        min=0,
        max=2,
        form_range=(0, 200),
        factor=100,
        step=5,
        key="loading/uncertainty",
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def is_stated(self) -> bool:
        """Whether metal and thickness are known, so that there is a loading in wt%."""
        return self.metal != NO_METAL and self.support_thickness_nm is not None
