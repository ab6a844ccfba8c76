"""The project: one durable file that holds what was found in many images, and who said what."""

from .opening import Opened, open_any, project_file, survey
from .project import SUFFIX, MergeReport, Project, ProjectImage, Stored

__all__ = [
    "SUFFIX",
    "MergeReport",
    "Opened",
    "Project",
    "ProjectImage",
    "Stored",
    "open_any",
    "project_file",
    "survey",
]
