"""Model, device and settings of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..detection import DetectionSettings


@dataclass(frozen=True)
class RunRequest:
    """Model, device and settings of a run.

    Parameters
    ----------
    model : str, optional
        Name of an available model, or path of a model file.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    pixel_size_nm : float, optional
        Pixel size; replaces that of the files.
    umap : bool, optional
        Whether to place the clusters in the map of the model.
    symmetries : bool, optional
        Whether to average the prediction over the eight symmetries of the square.
    detection : DetectionSettings, optional
        Settings in nm and in multiples of the noise.
    ratios : str, optional
        Method for the class ratios, a name in `statistics.prevalence.METHODS`.
    reference : str, optional
        Table of known ratios to compare with: see `statistics.reference`.
    average_frames : int or str, optional
        Stacks only: number of registered frames to average before the detection, or "all".
    """

    model: str = "default"
    device: str = "auto"
    pixel_size_nm: float | None = None
    umap: bool = True
    symmetries: bool = False
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    ratios: str = "counted"
    reference: str | None = None
    average_frames: int | str | None = None
