"""Builds TensorRT plans from ONNX files, here or ahead of time, and keeps them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.runtime.engine import Arrays, EngineError, EngineOptions, TensorInfo
from services.runtime.onnx_graph import adapted_model
from services.runtime.plan_cache import PlanCache, PlanKey, file_sha256
from services.runtime.tensorrt_calibration import calibration_digest, make_calibrator
from services.runtime.tensorrt_module import Listener, TensorRt, for_target
from services.runtime.tensorrt_profile import Profile, wanted_inputs
from services.telemetry import get_logger

_log = get_logger(__name__)

_FLAGS = {"fp16": ("FP16",), "bf16": ("BF16",), "int8": ("INT8", "FP16"), "fp32": ()}
_ANY_DEVICE = "any"


@dataclass(frozen=True)
class PlanRequest:
    """A plan that is wanted.

    Attributes:
        path: ONNX file.
        options: precision and shapes.
        profile: ranges of what is free.
        compute_capability: for example "8.0".
        device: name of the device at hand; None to build without one.
        calibration: inputs to choose the int8 scales by, if the file does not hold scales.
    """

    path: Path
    options: EngineOptions
    profile: Profile
    compute_capability: str
    device: str | None = None
    calibration: Sequence[Arrays] = ()


def build_plan(
    model_path: Path,
    options: EngineOptions,
    compute_capability: str,
    *,
    profile: Profile | None = None,
    cache: PlanCache | None = None,
) -> Path:
    """Builds a plan ahead of time; no GPU is needed.

    Args:
        model_path: ONNX file.
        options: precision and shapes.
        compute_capability: of the devices that it is for, for example "8.0".
        profile: ranges of what is free.
        cache: where it is kept. If it is there already, nothing is built.

    Returns:
        The plan's file in the cache, which an engine with the same cache will find.

    Raises:
        EngineError: no TensorRT here builds for that compute capability, the network has an
            operator that TensorRT does not know, or the precision cannot be had.
    """
    module = for_target(compute_capability)
    request = PlanRequest(model_path, options, profile or Profile(), compute_capability)
    cache = cache or PlanCache()
    key, _ = cached_plan(module, request, cache)
    return cache.path(key)


def cached_plan(module: TensorRt, request: PlanRequest, cache: PlanCache) -> tuple[PlanKey, bytes]:
    """The plan that is wanted, from the cache or built and put there.

    Raises:
        EngineError: see `build_plan`.
    """
    key = plan_key(module, request)
    plan = cache.get(key)
    if plan is None:
        start = time.monotonic()
        plan = _Build(module, request, cache, key).run()
        cache.put(key, plan)
        _log.info(
            "engine plan built",
            model=request.path.name,
            engine=module.version,
            compute_capability=request.compute_capability,
            precision=request.options.precision,
            seconds=round(time.monotonic() - start, 2),
            size=len(plan),
        )
    return key, plan


def plan_key(module: TensorRt, request: PlanRequest) -> PlanKey:
    """What a plan depends on.

    A module that builds for named compute capabilities makes plans that fit every device of one,
    wherever they were built; the others tune for the device at hand.
    """
    device = _ANY_DEVICE if module.targets else request.device
    if device is None:
        raise EngineError(f"{module.version} builds only for the device that it runs on.")
    profile = request.profile
    return PlanKey(
        model_sha256=file_sha256(request.path),
        engine=module.version,
        device=device,
        compute_capability=request.compute_capability,
        precision=request.options.precision,
        shapes=f"{request.options.free_dimensions} {profile.batches} {profile.sides}",
        calibration=calibration_digest(request.calibration),
    )


class _Build:
    """One build, with what it needs at hand."""

    def __init__(
        self, module: TensorRt, request: PlanRequest, cache: PlanCache, key: PlanKey
    ) -> None:
        self._module, self._api = module, module.api
        self._request = request
        self._precision: str = request.options.precision
        self._cache, self._key = cache, key
        self._listener: Listener = module.listener()

    def run(self) -> bytes:
        self._check_precision()
        builder = self._api.Builder(self._listener.logger)
        network, inputs = self._network(builder)
        config = builder.create_builder_config()
        self._set_target(config)
        self._set_precision(config, network)
        self._set_shapes(builder, config, inputs)
        timing_key = replace(
            self._key, model_sha256="", precision="", shapes="", calibration="", kind="timing"
        )
        if not self._module.has_runtime_cache:
            config.set_timing_cache(
                config.create_timing_cache(self._cache.get(timing_key) or b""),
                ignore_mismatch=False,
            )
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError(
                f"{self._module.version} cannot build {self._request.path.name} for compute "
                f"capability {self._request.compute_capability}: {self._listener.complaints()}"
            )
        if not self._module.has_runtime_cache:
            self._cache.put(timing_key, bytes(config.get_timing_cache().serialize()))
        return bytes(plan)

    def _check_precision(self) -> None:
        if self._precision not in _FLAGS:
            raise EngineError(f"TensorRT does not know the precision {self._precision!r}.")
        if self._module.is_strongly_typed and self._precision == "bf16":
            raise EngineError(
                f"{self._module.version} takes bf16 only from networks that are in bf16; ask for "
                "fp16."
            )

    def _network(self, builder: Any) -> tuple[Any, tuple[TensorInfo, ...]]:
        """The network with its inputs as wanted."""
        path = self._request.path
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EngineError(f"{path.name} cannot be read.") from error
        network = self._parse(builder, content)
        found = _inputs(network)
        wanted = wanted_inputs(found, self._request.options)
        half = self._module.is_strongly_typed and self._precision == "fp16"
        if half or found != wanted:
            shapes = {info.name: info.shape for info in wanted}
            network = self._parse(builder, adapted_model(path, shapes, half))
        self._check_batch(network, wanted)
        return network, wanted

    def _parse(self, builder: Any, content: bytes) -> Any:
        network = builder.create_network(0)
        parser = self._api.OnnxParser(network, self._listener.logger)
        # The path tells where weights lie that are kept beside the file.
        if not parser.parse(content, str(self._request.path)):
            faults = "; ".join(_fault(parser.get_error(i)) for i in range(parser.num_errors))
            raise EngineError(
                f"{self._module.version} cannot read {self._request.path.name}: "
                f"{faults or self._listener.complaints()}"
            )
        return network

    def _check_batch(self, network: Any, inputs: Sequence[TensorInfo]) -> None:
        """A network that mixes its batch up with something else must not be run in batches."""
        if not any(info.shape[:1] == (-1,) for info in inputs):
            return
        for index in range(network.num_outputs):
            output = network.get_output(index)
            if tuple(output.shape)[:1] != (-1,):
                raise EngineError(
                    f"{self._request.path.name} cannot run in batches: its output {output.name!r} "
                    f"is always {tuple(output.shape)}. Fix its batch in `free_dimensions`."
                )

    def _set_target(self, config: Any) -> None:
        if not self._module.targets:
            return
        config.num_compute_capabilities = 1
        config.set_compute_capability(self._module.target(self._request.compute_capability), 0)

    def _set_precision(self, config: Any, network: Any) -> None:
        flags = self._api.BuilderFlag
        if self._precision == "fp32":
            config.clear_flag(flags.TF32)  # what is called fp32 is to be fp32
        if hasattr(flags, "REQUIRE_USER_ALLOCATION"):
            config.set_flag(flags.REQUIRE_USER_ALLOCATION)  # or it cannot be captured in a graph
        has_scales = any(
            network.get_layer(index).type == self._api.LayerType.QUANTIZE
            for index in range(network.num_layers)
        )
        if self._module.is_strongly_typed:
            if self._precision == "int8" and not has_scales:
                raise EngineError(
                    f"{self._module.version} takes int8 only from networks that are quantised "
                    f"(QuantizeLinear), and {self._request.path.name} is not."
                )
            return
        for name in _FLAGS[self._precision]:
            config.set_flag(getattr(flags, name))
        if self._precision == "int8" and not has_scales:
            config.int8_calibrator = make_calibrator(
                self._module, self._request.calibration, self._cache, self._key
            )

    def _set_shapes(self, builder: Any, config: Any, inputs: Sequence[TensorInfo]) -> None:
        if not any(-1 in info.shape for info in inputs):
            return
        profile = builder.create_optimization_profile()
        for info in inputs:
            shapes = self._request.profile.range(info.shape)
            profile.set_shape(info.name, shapes.least, shapes.usual, shapes.greatest)
        config.add_optimization_profile(profile)
        if self._precision == "int8" and not self._module.is_strongly_typed:
            config.set_calibration_profile(profile)


def _inputs(network: Any) -> tuple[TensorInfo, ...]:
    tensors = (network.get_input(index) for index in range(network.num_inputs))
    return tuple(TensorInfo(tensor.name, tuple(tensor.shape)) for tensor in tensors)


def _fault(error: Any) -> str:
    place = f"{error.node_operator()} {error.node_name()!r}: " if error.node_operator() else ""
    return f"{place}{error.desc().strip()}"
