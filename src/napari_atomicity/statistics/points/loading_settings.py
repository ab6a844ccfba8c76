"""Metal and support of the metal loading in per cent by weight."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.settings import check_settings, documented, setting

# ---- standard atomic weights of metals

ATOMIC_WEIGHTS_G_MOL = {
    "Mg": 24.305, "Al": 26.982, "Sc": 44.956, "Ti": 47.867, "V": 50.942, "Cr": 51.996,
    "Mn": 54.938, "Fe": 55.845, "Co": 58.933, "Ni": 58.693, "Cu": 63.546, "Zn": 65.38,
    "Ga": 69.723, "Ge": 72.630, "Y": 88.906, "Zr": 91.224, "Nb": 92.906, "Mo": 95.95,
    "Ru": 101.07, "Rh": 102.91, "Pd": 106.42, "Ag": 107.87, "Cd": 112.41, "In": 114.82,
    "Sn": 118.71, "Sb": 121.76, "Ba": 137.33, "La": 138.91, "Ce": 140.12, "Pr": 140.91,
    "Nd": 144.24, "Sm": 150.36, "Eu": 151.96, "Gd": 157.25, "Tb": 158.93, "Dy": 162.50,
    "Ho": 164.93, "Er": 167.26, "Tm": 168.93, "Yb": 173.05, "Lu": 174.97, "Hf": 178.49,
    "Ta": 180.95, "W": 183.84, "Re": 186.21, "Os": 190.23, "Ir": 192.22, "Pt": 195.08,
    "Au": 196.97, "Hg": 200.59, "Tl": 204.38, "Pb": 207.2, "Bi": 208.98, "Th": 232.04,
    "U": 238.03,
}  # fmt: skip
"""Molar masses in g/mol, abridged to five digits: T. Prohaska et al., "Standard atomic weights of
the elements 2021 (IUPAC Technical Report)", Pure Appl. Chem. 94, 573-600 (2022),
doi:10.1515/pac-2019-0603."""


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
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def is_stated(self) -> bool:
        """Whether metal and thickness are known, so that there is a loading in wt%."""
        return self.metal != NO_METAL and self.support_thickness_nm is not None
