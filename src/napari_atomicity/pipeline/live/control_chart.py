"""Whether a session keeps to the conditions of its own first images: a control chart.

The limit on a model's card is that of all conditions it was trained under. Within a session these
vary far less, so a change is seen against the session's own images long before that limit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtr, ndtri, stdtr

from ...models.analysis import Analysis
from ...models.domain_shift import FeatureSummary

FIRST = 10
"""So many images are the reference before anything is judged."""
MIN_FIRST = 4
"""Fewer know nothing of their scatter."""
WEIGHT = 0.1
"""Of a new image in the running mean: small, for scores are not quite normal, and so that no image
alone rings."""
LIMIT = 2.992
"""Of the running mean, in its standard deviations: of independent normal scores one image in
`IMAGES_PER_FALSE_ALARM` begins a false alarm (`images_per_false_alarm`)."""
IMAGES_PER_FALSE_ALARM = 1000
SESSION_CHANGED = "the conditions are not those of the session's first images any more"
MAX_MEAN = 2.0
"""Limits that the running mean may reach: it is below again soon after conditions are."""
ODD = 3.09
"""An image with such a score, one in a thousand, joins no reference: it may be the first after a
change, and would hide the next."""
MAX_REFERENCE_IMAGES = 200
"""A reference of so many images knows its scatter; with more it would follow slow changes."""
_MIN_P = 1e-9
"""No single image says more than that, however far it is."""


@dataclass(frozen=True)
class Reading:
    """What the chart says once an image has come."""

    # squared distance of the image from the session's reference, scatter taken off; in the units of
    # `models.domain_shift.domain_shift`. NaN while the reference is gathered, or of too few
    # clusters
    drift: float = np.nan
    # the running mean in units of its limit, 0 to `MAX_MEAN`: above 1 the conditions have changed.
    # NaN while the reference is gathered
    change: float = np.nan
    reference: int = 0  # how many images the reference holds
    joined: bool = False  # whether this one is like it

    @property
    def rings(self) -> bool:
        """Whether the conditions have changed."""
        return self.change > 1


@dataclass(eq=False)
class ControlChart:
    """A self-starting chart of exponentially weighted moving averages.

    The reference are the first images, and later ones up to `MAX_REFERENCE_IMAGES` that are not odd
    themselves (`ODD`) and come while nothing rings. The logarithm of an image's squared distance
    from them is compared with theirs, each left out in turn, by Student's t, which allows for how
    few they are, and turned into a standard normal score q [1]_. The running mean z ← max(0, (1 −
    w) z + w q) of these scores rings above `LIMIT` times the standard deviation √(w / (2 − w)) that
    it would have without the floor [2]_: an image that lies nearer than usual is no reason to ring
    later.

    References
    ----------
    .. [1] C. P. Quesenberry, "SPC Q charts for start-up processes and short or long runs", Journal
       of Quality Technology 23, 213-224 (1991); D. M. Hawkins, "Self-starting cusum charts for
       location and scale", The Statistician 36, 299-315 (1987).
    .. [2] S. V. Crowder and M. D. Hamilton, "An EWMA for monitoring a process standard deviation",
       Journal of Quality Technology 24, 12-21 (1992); J. M. Lucas and M. S. Saccucci,
       "Exponentially weighted moving average control schemes: properties and enhancements",
       Technometrics 32, 1-12 (1990).
    """

    # how many images are the reference before anything is judged; 0: nothing ever is
    first: int = FIRST
    weight: float = WEIGHT
    limit: float = LIMIT
    _residuals: list[np.ndarray] = field(default_factory=list)
    _scatters: list[float] = field(default_factory=list)
    _mean: float = 0.0

    def __post_init__(self) -> None:
        if self.first != 0 and self.first < MIN_FIRST:
            raise ValueError(f"the reference needs at least {MIN_FIRST} images, not {self.first}")

    @property
    def images(self) -> int:
        """In the reference."""
        return len(self._residuals)

    @property
    def judges(self) -> bool:
        """Whether the reference is large enough."""
        return 0 < self.first <= self.images

    def begin_anew(self) -> None:
        """Start a new reference with the next image."""
        self._residuals, self._scatters, self._mean = [], [], 0.0

    def add(self, image: FeatureSummary | None) -> Reading:
        """Add the next image; None if it has too few clusters."""
        if self.first == 0:
            return Reading()
        drift, joins = np.nan, image is not None
        if image is not None:
            if self.judges:
                drift, score = self._judged(image)
                mean = self._mean + self.weight * (score - self._mean)
                self._mean = min(max(0.0, mean), MAX_MEAN * self._ring_at)
                joins = score < ODD and self._change() <= 1
            if joins and self.images < max(MAX_REFERENCE_IMAGES, self.first):
                self._residuals.append(image.residual)
                self._scatters.append(image.scatter)
        return Reading(drift, self._change() if self.judges else np.nan, self.images, joins)

    @property
    def _ring_at(self) -> float:
        return float(self.limit * np.sqrt(self.weight / (2 - self.weight)))

    def _change(self) -> float:
        return self._mean / self._ring_at

    def _judged(self, image: FeatureSummary) -> tuple[float, float]:
        """Squared distance of an image from the reference, and its standard normal score."""
        known, scatter = np.stack(self._residuals), np.array(self._scatters)
        m, usual = len(known), scatter.mean()
        middle = known.mean(axis=0)
        # of m images with one left out, the middle of the rest is this much further away
        left_out = ((known - middle) ** 2).sum(axis=1) * (m / (m - 1)) ** 2
        own = _like(left_out - scatter - (scatter.sum() - scatter) / (m - 1) ** 2, m - 1)
        far = ((image.residual - middle) ** 2).sum() - image.scatter - scatter.sum() / m**2
        here = _like(np.array(far), m)
        logs, log = _log(own, usual), float(_log(here, usual))
        spread = max(float(logs.std(ddof=1)), 1e-6) * np.sqrt(1 + 1 / m)
        p = np.clip(stdtr(m - 1, (logs.mean() - log) / spread), _MIN_P, 1 - _MIN_P)
        return float(far), float(-ndtri(p))


def _like(squared: np.ndarray, m: int) -> np.ndarray:
    """Squared distances from the middle of m images, as if from that of any number of them."""
    return np.asarray(squared / (1 + 1 / m))


def _log(squared: np.ndarray, usual: float) -> np.ndarray:
    """Compute the logarithm after adding the usual scatter, which makes it nearly normal."""
    return np.log(np.maximum(squared + usual, 0.05 * usual))


def images_per_false_alarm(
    weight: float = WEIGHT, limit: float = LIMIT, states: int = 301
) -> float:
    """Compute the mean number of images before a chart of unchanged conditions raises an alarm.

    The scores are independent and standard normal. The running mean is a Markov chain over
    intervals [1]_.

    References
    ----------
    .. [1] D. Brook and D. A. Evans, "An approach to the probability distribution of cusum run
       length", Biometrika 59, 539-549 (1972); for moving averages Lucas and Saccucci (1990).
    """
    deviation = np.sqrt(weight / (2 - weight))
    edges = np.linspace(0.0, limit * deviation, states)
    at = np.append(0.0, (edges[1:] + edges[:-1]) / 2)  # the floor, and the intervals above it
    reached = ndtr((edges[None] - (1 - weight) * at[:, None]) / weight)
    steps = np.diff(reached, axis=1, prepend=0.0)
    return float(np.linalg.solve(np.eye(states) - steps, np.ones(states))[0])


# ---- images since the conditions of a session changed

MAX_IMAGES = 20
"""Number of last images that are kept in memory, with their patches."""


@dataclass(eq=False)
class ChangedImages:
    """Images after the last one that was like the reference of its session."""

    # `WatchedImages.content_of` each: a file may be renamed
    contents: list[str] = field(default_factory=list)
    # the last `MAX_IMAGES` of them
    last: deque[Analysis] = field(default_factory=lambda: deque(maxlen=MAX_IMAGES))
    is_new: bool = False  # whether one was added since this was set to False

    def add(self, analysis: Analysis, reading: Reading, content: str) -> None:
        """Add the next image; one that is like the reference ends the change."""
        if reading.joined:
            self.contents.clear()
            self.last.clear()
            return
        if content not in self.contents:
            self.contents.append(content)
        self.last.append(analysis)
        self.is_new = True
