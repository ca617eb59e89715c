"""How often connections between Mien's services are tried: clients ask, servers must allow it."""

PING_EVERY_MS = 2000
"""Milliseconds between two pings on a connection that says nothing else."""
