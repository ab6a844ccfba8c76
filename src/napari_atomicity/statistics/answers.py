"""Answers of annotators at sites and at empty places, for the model of Dawid and Skene."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .agreement_coefficients import AgreementFigure, alpha_of_counts
from .annotation_sites import MARKED
from .bootstrap_units import Units
from .dawid_skene import NO, NOT_LOOKED, YES, Fitted, fit

PLACE_NM2 = 0.0665
"""Area in nm² of a platinum atom in a (111) plane: that of a place."""


class Places:
    """Sites and empty places of all images, grouped by the answers of all annotators.

    Parameters
    ----------
    sites : pandas.DataFrame
        Sites, as from `annotation_sites.merge_annotations`.
    looked : pandas.DataFrame
        A row per image and annotator who examined it: ``image, annotator, area_nm2``.

    Attributes
    ----------
    kinds : ndarray of shape (P, K), int
        Distinct answers, as for `dawid_skene.fit`.
    weights : ndarray of shape (P,)
        Number of places of each kind, including empty ones.
    """

    def __init__(self, sites: pd.DataFrame, looked: pd.DataFrame) -> None:
        area = looked.groupby("image", sort=False)["area_nm2"].median()
        self._images = list(area.index)
        held = sites.groupby("image").size().reindex(area.index, fill_value=0)
        self._n_empty = (area / PLACE_NM2 - held).clip(lower=0).to_numpy(float)
        people = list(dict.fromkeys(looked["annotator"]))
        who = pd.crosstab(looked["image"], looked["annotator"]).loc[self._images, people]
        empty = np.where(who.to_numpy() > 0, NO, NOT_LOOKED)
        marked = YES * sites[[MARKED + name for name in people]].to_numpy(float)
        answers = np.concatenate([np.nan_to_num(marked, nan=NOT_LOOKED).astype(int), empty])
        self.kinds, kind = np.unique(answers, axis=0, return_inverse=True)
        self._of_site, self._of_empty = np.split(kind.ravel(), [len(sites)])
        self._marked = np.bincount(self._of_site, minlength=len(self.kinds)).astype(float)
        self.weights = self._marked + np.bincount(self._of_empty, self._n_empty, len(self.kinds))

    def per_unit(self, units: Units, sites: pd.DataFrame) -> np.ndarray:
        """Count the places of each kind in each unit; empty ones are spread evenly over an image.

        Parameters
        ----------
        sites : pandas.DataFrame
            Sites, as from `annotation_sites.merge_annotations`.

        Returns
        -------
        ndarray of shape (units, P)
        """
        out = np.zeros((units.n, len(self.kinds)))
        for i, image in enumerate(self._images):
            here = np.flatnonzero(sites["image"] == image)
            unit = units.of(image, sites[["y_nm", "x_nm"]].to_numpy(float)[here])
            np.add.at(out, (unit, self._of_site[here]), 1.0)
            first = units.images.index(image) * units.per_image
            share = self._n_empty[i] / units.per_image
            out[first : first + units.per_image, self._of_empty[i]] += share
        return out

    def posterior(self, fitted: Fitted) -> np.ndarray:
        """Return the posterior of each site."""
        return np.asarray(fitted.posterior[self._of_site], float)

    def missed(self, fitted: Fitted) -> float:
        """Return the expected number of atoms in empty places; NaN with one annotator per image."""
        if np.isnan(fitted.sensitivity).all():
            return np.nan
        return float((self._n_empty * fitted.posterior[self._of_empty]).sum())

    def alpha(self, rng: np.random.Generator, empty: bool) -> AgreementFigure:
        """Compute Krippendorff's alpha of yes and no; an uncertain mark is a yes."""
        n = np.round(self.weights if empty else self._marked).astype(int)
        given = np.stack([(self.kinds == NO).sum(axis=1), (self.kinds > NO).sum(axis=1)], axis=1)
        shared = (given.sum(axis=1) >= 2) & (n > 0)
        return alpha_of_counts(given[shared], n[shared], rng) if shared.any() else AgreementFigure()


def posterior_of(sites: pd.DataFrame, looked: pd.DataFrame) -> np.ndarray:
    """Return the probability that each site is an atom."""
    places = Places(sites, looked)
    return places.posterior(fit(places.kinds, places.weights))
