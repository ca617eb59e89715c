"""The embedding service: aligned crops in, vectors with their identity out."""

from services.embedding.embedder import Embedder, load_configured, load_embedder, probe_embedder
from services.embedding.server import EmbeddingServer
from services.embedding.service import EmbeddingService, InProcessLink

__all__ = [
    "Embedder",
    "EmbeddingServer",
    "EmbeddingService",
    "InProcessLink",
    "load_configured",
    "load_embedder",
    "probe_embedder",
]
