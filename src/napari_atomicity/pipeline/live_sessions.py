"""Scales of images as they arrive, with what their session knows so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.acquisition_session import AcquisitionSession
from ..io.provenance import Outcome
from ..models.analysis import Analysis
from ..models.image_evidence import ImageMeasurements
from ..models.intensity_scale import ConstrainedMixture
from ..models.session_images import mixture_of_modes, require_references
from ..models.session_scale import fit_session
from .finalize import PartIndex
from .image_scale import ImageScale
from .session_labels import describe_scale, is_same_scale, with_known_shares

MAX_CLUSTERS = 1000
"""Number of clusters of a session up to which all its images are fitted with each new one."""
GROWTH = 1.1
"""Growth of the number of images after which the scale of a larger session is found again."""


@dataclass(frozen=True)
class _Known:
    """What is known of a session: mean and standard deviation of ln scale, number of images."""

    prior: tuple[float, float]
    n_images: int


@dataclass(eq=False)
class LiveSessions:
    """Finds the scale of each new image with the earlier images of its session.

    The first images of a session are fitted jointly. Later, the scale of the session is a prior for
    the new image; it is found again whenever the session has grown by a tenth, so that the total
    cost remains linear in the number of images.
    """

    images: PartIndex
    _measured: dict[str, tuple[ImageMeasurements, Outcome]] = field(default_factory=dict)
    _known: dict[str, _Known] = field(default_factory=dict)

    def find_scale(self, analysis: Analysis, outcome: Outcome) -> ConstrainedMixture | None:
        """Find the scale of a new image."""
        self.images.joint.pop(outcome.image, None)
        stored = ImageScale.of(analysis, self.images.card)
        if stored is None:
            return None
        earlier = self._read_earlier(outcome.image)
        outcomes = [one for _, one in earlier.values()]
        session = next(
            session
            for session in self.images.sessions.group([*outcomes, outcome])
            if outcome.image in session.images
        )
        others = [name for name in session.images if name != outcome.image]
        if not others and not session.known and session.earlier is None:
            return None
        card = self.images.card
        new = with_known_shares(stored.measurements, session, outcome.image, card)
        measured = [with_known_shares(earlier[n][0], session, n, card) for n in others]
        prior = session.prior
        if sum(len(x.log_intensity) for x in measured) > MAX_CLUSTERS:
            prior, measured = self._find_prior(session, measured), []
        fitted = [*measured, new]
        found = fit_session(fitted, require_references(self.images.card)[0], prior)
        self.images.joint[outcome.image] = describe_scale(
            found, len(fitted) - 1, None, session.prior
        )
        scale = mixture_of_modes(found.images[-1], analysis.table, stored.scale.reference)
        return None if is_same_scale(stored.scale, scale) else scale

    def _find_prior(
        self, session: AcquisitionSession, measured: list[ImageMeasurements]
    ) -> tuple[float, float]:
        """Return mean and standard deviation of ln scale of a large session."""
        known = self._known.get(session.name)
        if known is None or len(measured) > GROWTH * known.n_images:
            reference = require_references(self.images.card)[0]
            found = fit_session(measured, reference, session.prior)
            known = _Known((found.log_scale, found.log_scale_sd), len(measured))
            self._known[session.name] = known
        return known.prior

    def _read_earlier(self, new: str) -> dict[str, tuple[ImageMeasurements, Outcome]]:
        """Return measurements and outcomes of the images that have been analysed before."""
        earlier = {}
        for name, stem in self.images.stems.items():
            if name == new:
                continue
            if stem not in self._measured:
                stored = self.images.image_scale(name)
                if stored is None:
                    continue
                self._measured[stem] = stored.measurements, self.images.store.outcome(stem)
            earlier[name] = self._measured[stem]
        return earlier
