"""The project: one durable file that holds what was found in many images, and who said what."""

from .opening import Opened, open_any, project_file, survey
from .project import SUFFIX, MergeReport, Project, ProjectContents, ProjectImage

__all__ = [
    "SUFFIX",
    "MergeReport",
    "Opened",
    "Project",
    "ProjectContents",
    "ProjectImage",
    "open_any",
    "project_file",
    "survey",
]
