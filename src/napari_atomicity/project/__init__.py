"""The project file: images, predictions, log of corrections."""

from .connection import SUFFIX
from .contents import (
    EditKind,
    ImageEdit,
    MergedEntries,
    MergeReport,
    ProjectContents,
    ProjectImage,
    RecordableEdit,
)
from .opening import Opened, open_any, project_file, survey
from .project import Project

__all__ = [
    "SUFFIX",
    "EditKind",
    "ImageEdit",
    "MergeReport",
    "MergedEntries",
    "Opened",
    "Project",
    "ProjectContents",
    "ProjectImage",
    "RecordableEdit",
    "open_any",
    "project_file",
    "survey",
]
