"""The project: one durable file that holds what was found in many images, and who said what."""

from .project import SUFFIX, MergeReport, Project, ProjectImage, Stored

__all__ = ["SUFFIX", "MergeReport", "Project", "ProjectImage", "Stored"]
