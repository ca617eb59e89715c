"""What is served: models with named tensors, and the checks that every request passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from services.errors import Errors, MienError
from services.inference_protocol.datatypes import DATATYPES, AnyArray, Datatype

ServedArrays = dict[str, AnyArray]
"""Tensors by name."""


async def _nothing() -> None:
    """Nothing to free."""


@dataclass(frozen=True)
class ServedTensor:
    """An input or output.

    Attributes:
        name: of the tensor.
        datatype: of its elements, one of `DATATYPES`.
        shape: batch included; -1 for a dimension of any size.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def type(self) -> Datatype:
        """Its datatype's row in the table."""
        return DATATYPES[self.datatype]

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of that shape fits."""
        return len(shape) == len(self.shape) and all(
            size > 0 and expected in (-1, size)
            for size, expected in zip(shape, self.shape, strict=True)
        )


@dataclass(frozen=True)
class ServedModel:
    """A model that the protocol serves.

    Attributes:
        name: of the model.
        version: of the model; any text that fits in a path.
        inputs: all of them are needed in each request.
        outputs: what it gives.
        infer: runs it once: arrays by input name, of the datatypes and shapes above, to arrays by
            output name. It raises MienError, with OVERLOADED when there is no room.
        platform: what runs it.
        max_batch: most rows in one request; 0 if the first dimension is no batch.
        ready: whether it can be run now.
        close: frees it.
    """

    name: str
    version: str
    inputs: tuple[ServedTensor, ...]
    outputs: tuple[ServedTensor, ...]
    infer: Callable[[ServedArrays], Awaitable[ServedArrays]]
    platform: str = ""
    max_batch: int = 0
    ready: Callable[[], bool] = field(default=lambda: True)
    close: Callable[[], Awaitable[None]] = _nothing


@dataclass(frozen=True)
class GivenTensor:
    """What a request says of an input, before its elements are read."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ServedModels:
    """The models of one server.

    Args:
        models: of two with one name, the first is chosen when a request names no version.

    Raises:
        ValueError: two models share name and version.
    """

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._models: dict[str, dict[str, ServedModel]] = {}
        for model in models:
            versions = self._models.setdefault(model.name, {})
            if model.version in versions:
                raise ValueError(f"{model.name} version {model.version} is there twice.")
            versions[model.version] = model

    def __iter__(self) -> Iterator[ServedModel]:
        return (model for versions in self._models.values() for model in versions.values())

    def find(self, name: str, version: str = "") -> ServedModel:
        """A model by name and, if one is asked for, version.

        Raises:
            MienError: MODEL_UNKNOWN.
        """
        versions = self._models.get(name)
        if versions is None:
            served = ", ".join(sorted(self._models)) or "none"
            raise MienError(
                Errors.MODEL_UNKNOWN,
                f"That model is not served here. Served: {served}.",
                field="model_name",
            )
        if not version:
            return next(iter(versions.values()))
        if version not in versions:
            raise MienError(
                Errors.MODEL_UNKNOWN,
                f"{name} is not served in that version. Served: {', '.join(versions)}.",
                field="model_version",
            )
        return versions[version]

    def versions(self, name: str) -> list[str]:
        """The versions of a model that is served."""
        return list(self._models[name])

    def ready(self) -> bool:
        """Whether every model can be run now."""
        return all(model.ready() for model in self)


def check_inputs(model: ServedModel, given: Sequence[GivenTensor]) -> list[ServedTensor]:
    """Checks all that a request says of its inputs.

    Returns:
        The model's tensor for each given one, in the request's order.

    Raises:
        MienError: INVALID_REQUEST with the input at fault, or REQUEST_TOO_LARGE.
    """
    expected = {tensor.name: tensor for tensor in model.inputs}
    matched: list[ServedTensor] = []
    for index, tensor in enumerate(given):
        place = f"inputs[{index}]"
        target = expected.pop(tensor.name, None)
        if target is None:
            known = any(other.name == tensor.name for other in model.inputs)
            names = ", ".join(other.name for other in model.inputs)
            raise invalid(
                f"{place}.name",
                "This input is given twice."
                if known
                else f"{model.name} has no such input. Its inputs: {names}.",
            )
        if tensor.datatype != target.datatype:
            raise invalid(f"{place}.datatype", f"{target.name} takes {target.datatype}.")
        if not target.takes(tensor.shape):
            sizes = ", ".join("any" if size == -1 else str(size) for size in target.shape)
            raise invalid(
                f"{place}.shape",
                f"{target.name} takes the shape [{sizes}], not {list(tensor.shape)}.",
            )
        matched.append(target)
    if expected:
        raise invalid("inputs", f"The input {next(iter(expected))!r} is missing.")
    if model.max_batch:
        _check_batch(model, given)
    return matched


def wanted_outputs(model: ServedModel, names: Sequence[str]) -> list[ServedTensor]:
    """The outputs that a request asks for, in its order; all if it names none.

    Raises:
        MienError: INVALID_REQUEST for a name that the model does not have, or has been given twice.
    """
    if not names:
        return list(model.outputs)
    by_name = {tensor.name: tensor for tensor in model.outputs}
    for index, name in enumerate(names):
        if name not in by_name:
            raise invalid(
                f"outputs[{index}].name",
                f"{model.name} has no such output. Its outputs: {', '.join(by_name)}.",
            )
        if name in names[:index]:
            raise invalid(f"outputs[{index}].name", "This output is asked for twice.")
    return [by_name[name] for name in names]


def refuse_extensions(parameters: Mapping[str, object], place: str) -> None:
    """Refuses what would silently change a tensor's meaning if it were passed over.

    Raises:
        MienError: INVALID_REQUEST.
    """
    for name in ("shared_memory_region", "classification"):
        if name in parameters:
            raise invalid(f"{place}.parameters.{name}", "This server does not have that extension.")


def invalid(place: str, detail: str) -> MienError:
    """A request that is not valid, with its field at fault."""
    return MienError(Errors.INVALID_REQUEST, detail, field=place)


def _check_batch(model: ServedModel, given: Sequence[GivenTensor]) -> None:
    counts = {tensor.shape[0] for tensor in given}
    if len(counts) > 1:
        raise invalid("inputs", "The inputs differ in their first dimension, the batch.")
    if max(counts) > model.max_batch:
        raise MienError(
            Errors.REQUEST_TOO_LARGE,
            f"{model.name} takes at most {model.max_batch} rows in one request.",
            field="inputs[0].shape",
        )
