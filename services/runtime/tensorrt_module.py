"""TensorRT as it is installed here: `tensorrt`, or `tensorrt_rtx`, which has the same API."""

from __future__ import annotations

import importlib
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from services.runtime.engine import EngineError

# First the one that tunes itself on the device, then the one that compiles without one.
MODULES = ("tensorrt", "tensorrt_rtx")

_KEPT_MESSAGES = 8
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TensorRt:
    """One of the two modules, and what it can do.

    Attributes:
        name: "tensorrt" or "tensorrt_rtx".
        api: the module itself, which has no types.
    """

    name: str
    api: Any

    @property
    def version(self) -> str:
        """Name and version, for example "tensorrt_rtx 1.7.1.116"."""
        return f"{self.name} {self.api.__version__}"

    @property
    def is_strongly_typed(self) -> bool:
        """Whether precision comes from the network's own types; there are no flags for it then."""
        return not hasattr(self.api.BuilderFlag, "FP16")

    @property
    def targets(self) -> tuple[str, ...]:
        """Compute capabilities that it can build for by name; none: only for the device here."""
        known = getattr(self.api, "ComputeCapability", None)
        if known is None or not hasattr(self.api.IBuilderConfig, "set_compute_capability"):
            return ()
        digits = (name[2:] for name in vars(known) if name[:2] == "SM" and name[2:].isdigit())
        return tuple(f"{number[:-1]}.{number[-1]}" for number in sorted(digits, key=int))

    def target(self, compute_capability: str) -> Any:
        """The module's own name for a compute capability.

        Raises:
            EngineError: it cannot build for it.
        """
        if compute_capability not in self.targets:
            known = ", ".join(self.targets) or "only the device that it runs on"
            raise EngineError(
                f"{self.version} has no target for compute capability {compute_capability}; "
                f"it knows {known}."
            )
        return getattr(self.api.ComputeCapability, "SM" + compute_capability.replace(".", ""))

    @property
    def has_runtime_cache(self) -> bool:
        """Whether it compiles kernels when they are first run, and can keep them."""
        return hasattr(self.api, "IRuntimeCache")

    def listener(self) -> Listener:
        """A new listener to what the module has to say."""
        return Listener(self.api)


class Listener:
    """Takes the module's messages: to the debug log, and the latest complaints for an error.

    Attributes:
        logger: the object to hand to the module.
    """

    def __init__(self, api: Any) -> None:
        self._complaints: deque[str] = deque(maxlen=_KEPT_MESSAGES)
        error = api.ILogger.Severity.ERROR.value

        def take(_: Any, severity: Any, message: str) -> None:
            if severity.value <= error:
                self._complaints.append(message.strip())
            _log.debug("%s: %s", severity.name, message)

        def start(self: Any) -> None:
            api.ILogger.__init__(self)

        kind = type("Logger", (api.ILogger,), {"__init__": start, "log": take})
        self.logger: Any = kind()

    def complaints(self) -> str:
        """The latest error messages, joined and forgotten."""
        joined = " | ".join(dict.fromkeys(self._complaints))
        self._complaints.clear()
        return joined or "no reason was given"


def installed(names: Iterable[str] = MODULES) -> list[TensorRt]:
    """The modules that can be imported here, best first."""
    found = []
    for name in names:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError, RuntimeError):  # not there, or without its libraries
            continue
        if hasattr(module, "Builder"):
            found.append(TensorRt(name, module))
    return found


def for_device(compute_capability: str) -> TensorRt:
    """The module to use on a device of some compute capability.

    Raises:
        EngineError: none is installed, or none fits.
    """
    modules = installed()
    for module in modules:
        if not module.targets or compute_capability in module.targets:
            return module
    raise _none_fits(modules, compute_capability)


def for_target(compute_capability: str) -> TensorRt:
    """The module to build with for a compute capability when there need not be such a device.

    Raises:
        EngineError: none is installed, or none can build for it.
    """
    modules = installed()
    for module in modules:
        if compute_capability in module.targets:
            return module
    raise _none_fits(modules, compute_capability)


def _none_fits(modules: list[TensorRt], compute_capability: str) -> EngineError:
    if not modules:
        return EngineError(f"neither {' nor '.join(MODULES)} is installed.")
    known = "; ".join(
        f"{module.version}: {', '.join(module.targets) or 'only the device that it runs on'}"
        for module in modules
    )
    return EngineError(f"no TensorRT here has a target for {compute_capability} ({known}).")
