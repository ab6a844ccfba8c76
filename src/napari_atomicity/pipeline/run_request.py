"""Model, device and settings of a run: for clusters, single atoms, and class maps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..core.acquisition_session import MAX_PIXEL_SIZE_ERROR, PIXEL_SIZE_ERROR, parse_known
from ..core.errors import SettingError, TableError
from ..core.settings import (
    GROUP_DISTANCE_NM,
    check_settings,
    device_setting,
    documented,
    make_absolute,
    model_setting,
    pixel_size_setting,
    rois_setting,
    samples_setting,
    seed_setting,
    setting,
    settings_of,
)
from ..detection.settings import DetectionSettings
from ..statistics.points.loading_settings import NO_METAL, LoadingSettings


@documented
@dataclass(frozen=True)
class RunRequest:
    """Model, device and settings of a run."""

    model: str = model_setting()
    device: str = device_setting(with_bfloat16=True)
    pixel_size_nm: float | None = pixel_size_setting()
    umap: bool = setting(True, "UMAP", "Place the clusters in the UMAP of the model.")
    symmetries: bool = setting(
        False,
        "Symmetries",
        "Average the prediction over the eight symmetries of the square. The result does not "
        "depend on the orientation of the image. Takes eight times as long.",
        text="Average over eight",
        default_text="no",
        key="symmetries",
        option="--symmetries",
    )
    labels: str = setting(
        "combination",
        "Labels from",
        "Estimator that gives labels and probabilities: the calibrated combination of network and "
        "constrained mixture, the constrained mixture of intensities and diameters (the network "
        "for clusters that touch others or the border), or the network alone. Confidences, "
        "prediction sets and intervals are calibrated for the combination.",
        choices={
            "combination": "combination",
            "mixture": "constrained mixture",
            "network": "network alone",
        },
        key="labels",
        option="--labels",
    )
    detection: DetectionSettings = setting(
        DetectionSettings(), "Detection", "Settings of the cluster detection."
    )
    ratios: str = setting(
        "counted",
        "Ratios by",
        "Method for the class fractions: counted labels, labels adjusted by the confusion matrix "
        "of the model, or expectation-maximisation.",
        choices={"counted": "labels", "confusion": "confusion matrix", "em": "EM"},
    )
    keep_ratios: bool = setting(
        False,
        "Keep ratios",
        "Give fractions even for a session that does not fit the classes of the model.",
        option="--keep-ratios",
    )
    reference: str | None = setting(
        None,
        "Reference",
        "Known class fractions to compare with: a ratio such as 'Pt19:Pt41 = 1:1', or a table with "
        "the columns class, fraction and scope.",
    )
    average_frames: int | str | None = setting(
        None,
        "",
        'Stacks only: number of registered frames to average before the detection, or "all".',
    )
    session: str = setting(
        "auto",
        "Sessions",
        "Sessions of images. 'auto': by folder, pixel size, instrument. 'none': one image each. "
        "'all': one session. Otherwise a table with the columns image, session and, for known "
        "samples, known.",
        option="--session",
    )
    samples: str | None = samples_setting()
    known: tuple[str, ...] = setting(
        (),
        "Known sample",
        "Images whose composition by number is known, such as 'ref_*.tif=Pt55' or "
        "'mix_*.tif=Pt19:1,Pt41:1'. May be given several times.",
        option="--known",
    )
    keep_known: bool = setting(
        False,
        "Keep known samples",
        "Use the composition of a known sample even if its clusters contradict it.",
        option="--keep-known",
    )
    pixel_size_error: float = setting(
        100 * PIXEL_SIZE_ERROR,
        "Pixel size ±",
        "Error (standard deviation) of the pixel size, which images of one or two sizes rest on; "
        "less after a calibration with a standard.",
        unit="%",
        min=0.0,
        max=100 * MAX_PIXEL_SIZE_ERROR,
        option="--pixel-size-error",
    )
    earlier_run: str | None = setting(
        None,
        "Earlier run",
        "The run.json of an earlier run with the same instrument and settings, or the card of a "
        "model trained with them, whose intensity of one atom is a wide prior for the sessions.",
        is_path=True,
        option="--earlier-run",
    )

    outlines: str | None = setting(
        None,
        "Outlines",
        "Outlines of clusters by another program, measured and classified instead of detecting "
        "clusters: a label image, GeoJSON, ImageJ ROIs, or a folder with one file per image.",
        is_path=True,
        option="--outlines",
    )
    rois: str | None = rois_setting("clusters")

    def __post_init__(self) -> None:
        make_absolute(self, "outlines", "rois")
        if self.labels != "combination" and self.ratios == "confusion":
            raise SettingError(
                "the confusion matrix of the model is that of the combination",
                ["labels", "ratios"],
                "Count the labels, or use EM",
            )
        for text in self.known:
            try:
                parse_known(text)
            except TableError as error:
                raise SettingError(error.what, ["known"], error.advice) from None


@dataclass(frozen=True)
class ExplainRequest(RunRequest):
    """Settings of class maps and class averages, and those of the analysis."""

    # Without a description they are no options here: they do not change a class map.
    umap: bool = False
    ratios: str = "counted"
    keep_ratios: bool = False
    reference: str | None = None
    samples: str | None = None
    # classes of the class maps; if empty, the predicted class of each cluster
    explained: tuple[str, ...] = setting(
        (),
        "Class",
        "Class of the class maps. May be given several times. Default: the predicted class of each "
        "cluster.",
        option="--class",
    )
    # "radius" or "nm": unit of distances in the averages
    unit: str = setting(
        "radius",
        "Distances",
        "Distances in the averages: in radii of each cluster, or in nm.",
        choices={"radius": "in radii", "nm": "in nm"},
    )
    # whether the figure scales each map to its own maximum
    normalised: bool = setting(
        False,
        "Each map to its own maximum",
        "Scale every class map and profile of the figure to its own maximum.",
        option="--normalised",
    )
    # maximum number of clusters of a class in the averages
    per_class: int = setting(
        1000,
        "Clusters per class",
        "Maximum number of clusters of a class in the averages, evenly spread over the images.",
        min=1,
    )

    def parameters(self) -> dict[str, Any]:
        """Return the settings for the record, by the names of their options."""
        known = settings_of(type(self))
        values = {k: v for k, v in asdict(self).items() if k in known or k == "detection"}
        values.pop("average_frames")
        explained = values.pop("explained")
        return {**values, "class": explained}


@documented
@dataclass(frozen=True)
class AtomRequest:
    """Model, device and settings of a run."""

    model: str = model_setting()
    device: str = device_setting()
    pixel_size_nm: float | None = pixel_size_setting()
    precision: float | None = setting(
        None, "Precision", "Expected precision.", min=0, max=1, default_text="maximum expected F1"
    )
    threshold: float | None = setting(
        None, "Threshold", "Minimum probability of an atom, instead of a precision.", min=0, max=1
    )
    group_distance_nm: float = setting(
        GROUP_DISTANCE_NM,
        "Linked within",
        "Maximum distance in nm between atoms of one group.",
        unit="nm",
        min=1e-3,
        form_range=(0.05, 5.0),
        decimals=2,
        step=0.01,
        default_text="0.3 nm, 8 % above the nearest-neighbour distance in platinum",
    )
    clusters: str | None = setting(
        None,
        "Clusters",
        "A clusters.csv of these images, to assign the atoms to clusters.",
        is_path=True,
    )
    rois: str | None = rois_setting("support and atoms")
    samples: str | None = samples_setting()
    seed: int = seed_setting()
    completeness: bool = setting(
        True,
        "Completeness",
        "Inject atoms into each image to estimate the detected fraction. Slower.",
    )

    loading: LoadingSettings = setting(
        LoadingSettings(), "Metal loading", "Metal and support, for the metal loading in wt%."
    )

    def __post_init__(self) -> None:
        check_settings(self)
        make_absolute(self, "rois")
        if (self.loading.metal == NO_METAL) != (self.loading.support_thickness_nm is None):
            names = ["metal", "support_thickness_nm"]
            raise SettingError("a loading in wt% requires both a metal and a thickness", names)
        if self.precision is not None and self.threshold is not None:
            names = ["precision", "threshold"]
            raise SettingError("give a precision or a threshold, not both", names)
