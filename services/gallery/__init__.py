"""The gallery: subjects, their templates by model version, and search among them."""

from services.gallery.contract import Gallery
from services.gallery.values import (
    DEFAULT_TENANT,
    Candidate,
    Collection,
    DeletionReport,
    Enrolled,
    Enrolment,
    Job,
    NewTemplate,
    Page,
    Space,
    Subject,
    Template,
    Written,
)

__all__ = [
    "DEFAULT_TENANT",
    "Candidate",
    "Collection",
    "DeletionReport",
    "Enrolled",
    "Enrolment",
    "Gallery",
    "Job",
    "NewTemplate",
    "Page",
    "Space",
    "Subject",
    "Template",
    "Written",
]
