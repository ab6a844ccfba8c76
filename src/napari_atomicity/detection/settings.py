"""Settings of cluster detection."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import AtomicityError


@dataclass(frozen=True)
class DetectionSettings:
    """Settings of cluster detection.

    Parameters
    ----------
    diameter_min_nm, diameter_max_nm : float
        Range of equivalent diameters in nm.
    threshold : float
        Minimum response in the scale space, in units of its local noise.
    split_touching : bool
        Whether a cluster with two peaks is split into two.
    split_depth : float
        Two peaks are separate clusters if the saddle between them is below this fraction of the
        lower peak.
    faintest : float
        Minimum integrated intensity as a fraction of the median of the clusters of the frame. It
        rejects groups of a few single atoms.
    """

    diameter_min_nm: float = 0.6
    diameter_max_nm: float = 3.2
    threshold: float = 6.0
    split_touching: bool = True
    split_depth: float = 0.9
    faintest: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.diameter_min_nm < self.diameter_max_nm:
            raise AtomicityError(
                f"diameters from {self.diameter_min_nm:g} to {self.diameter_max_nm:g} nm "
                "are not a range",
                advice="The minimum must be above 0 and below the maximum",
            )
        if not self.threshold > 0:
            raise AtomicityError(
                f"a threshold of {self.threshold:g} times the noise is not positive",
                advice="Give a positive number; 6 is the default",
            )
