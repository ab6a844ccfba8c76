"""What is stored of an image so that its session can label it without image and network."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...core.model_card import ModelCard
from ...io.files import NPZ_MARK
from ...models.analysis import Analysis
from ...models.embedding import place_again
from ...models.inference import Classifier, Prediction
from ...models.scale.image_evidence import ImageMeasurements
from ...models.scale.intensity_scale import ConstrainedMixture
from ...models.scale.session_images import measure_analysis, session_references
from ...models.scaled_predictions import ScaledPrediction, label_solutions, predict_solutions

FORM = 2
"""Version of the format; images with another one are analysed again."""


@dataclass(frozen=True, eq=False)
class ImageScale:
    """Scale of an image by itself, and predictions of the network for its solutions."""

    # intensities and apparent sizes of the clusters that tell the scale
    measurements: ImageMeasurements
    scale: ConstrainedMixture
    # predictions for the clusters of its table, without class maps
    predictions: tuple[ScaledPrediction, ...]

    @property
    def has_clusters(self) -> bool:
        """Whether the image has clusters."""
        return any(len(x.prediction.probabilities) for x in self.predictions)

    @classmethod
    def of(cls, analysis: Analysis, card: ModelCard) -> ImageScale | None:
        """Return what is stored of an analysed image; None if the model does not use the scale."""
        references = session_references(card)
        if references is None or analysis.scale is None:
            return None
        measurements = measure_analysis(analysis, references)
        return cls(measurements, analysis.scale, analysis.own_predictions)

    def label(
        self,
        table: pd.DataFrame,
        scale: ConstrainedMixture,
        classifier: Classifier,
        labels_from: str = "combination",  # estimator that gives the labels
    ) -> pd.DataFrame | None:
        """Label the clusters with a scale as `analysis.apply_scale` does."""
        at_hand = {x.log_scale: x.prediction for x in self.predictions}
        try:
            found = predict_solutions(scale, list(at_hand), classifier.card, at_hand.__getitem__)
        except KeyError:  # a solution needs the network
            return None
        labelled = label_solutions(table, classifier, scale, found, labels_from)
        return place_again(labelled, found[0].prediction.embedding, classifier)

    def to_bytes(self) -> bytes:
        """Return a compressed NumPy archive."""
        stream = io.BytesIO()
        predictions = [x.prediction for x in self.predictions]
        np.savez_compressed(
            stream,
            **NPZ_MARK,
            form=np.array(FORM),
            log_intensity=self.measurements.log_intensity,
            log_size=self.measurements.log_size,
            distinct=np.array(
                () if self.measurements.distinct is None else self.measurements.distinct
            ),
            anchor=np.array(self.measurements.anchor or ()),
            weight=self.scale.weight,
            shift=self.scale.shift,
            shares=self.scale.shares,
            spread=self.scale.spread,
            log_scale=np.array([x.log_scale for x in self.predictions]),
            probabilities=np.array([p.probabilities for p in predictions]),
            embedding=np.array([p.embedding for p in predictions], np.float32),
        )
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, card: ModelCard) -> ImageScale | None:
        """Build from `to_bytes`."""
        if card.scale is None:
            return None
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                x = {name: archive[name] for name in archive.files}
            if x["form"] != FORM:
                return None
            predictions = tuple(
                ScaledPrediction(float(log_scale), Prediction(probabilities, embedding, {}))
                for log_scale, probabilities, embedding in zip(
                    x["log_scale"], x["probabilities"], x["embedding"], strict=True
                )
            )
            mixture = (x[name] for name in ("weight", "shift", "shares", "spread"))
            return cls(
                ImageMeasurements(
                    x["log_intensity"],
                    x["log_size"],
                    anchor=tuple(x["anchor"].tolist()) or None,
                    distinct=distinct if len(distinct := x.get("distinct", np.empty(0))) else None,
                ),
                ConstrainedMixture(card.scale, *mixture),
                predictions,
            )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
