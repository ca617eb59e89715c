"""The embedded gallery: SQLite for rows, faiss in memory for search, one process."""

from services.gallery.embedded.store import EmbeddedGallery

__all__ = ["EmbeddedGallery"]
