"""The embedding service: aligned crops in, vectors with their identity out."""

from services.embedding.embedder import Embedder, load_configured, load_embedder, probe_embedder
from services.embedding.frontalizer import Frontalizer, load_frontalizer
from services.embedding.server import EmbeddingServer
from services.embedding.service import EmbeddingService, InProcessLink

__all__ = [
    "Embedder",
    "EmbeddingServer",
    "EmbeddingService",
    "Frontalizer",
    "InProcessLink",
    "load_configured",
    "load_embedder",
    "load_frontalizer",
    "probe_embedder",
]
