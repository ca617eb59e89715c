"""The mapping service: vectors of one embedding model in, vectors of another's space out."""

from services.mapping.mapper import Mapper, load_mapper, probe_map
from services.mapping.server import MappingServer
from services.mapping.service import InProcessLink, MappingService

__all__ = [
    "InProcessLink",
    "Mapper",
    "MappingServer",
    "MappingService",
    "load_mapper",
    "probe_map",
]
