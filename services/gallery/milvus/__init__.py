"""The cluster's gallery: everything in Milvus, through its client."""

from services.gallery.milvus.store import MilvusGallery

__all__ = ["MilvusGallery"]
