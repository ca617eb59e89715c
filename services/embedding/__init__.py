"""The embedding service: aligned crops in, vectors with their identity out."""

from services.embedding.embedder import Embedder, load_configured, load_embedder, probe_embedder
from services.embedding.server import EmbeddingServer

__all__ = ["Embedder", "EmbeddingServer", "load_configured", "load_embedder", "probe_embedder"]
