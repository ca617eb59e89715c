"""The console: a web page for people, over the public REST interface and nothing else."""

from services.gateway.console.routes import add_console, is_on

__all__ = ["add_console", "is_on"]
