"""Options of a run from a profile: a method's defaults, what the profile changes, what is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from models.training.augment import Augmentation

Options = TypeVar("Options", bound=BaseModel)


def options_of(
    kind: type[Options],
    profile: Mapping[str, Any],
    look: Augmentation,
    changes: Mapping[str, Any] | None,
) -> Options:
    """The options of a profile with changes laid over them.

    Args:
        kind: the options model; its field "augmentation" holds an `Augmentation`.
        profile: what the profile changes in the model's defaults.
        look: the method's own augmentation, of which a change may name single parts.
        changes: by field.

    Raises:
        pydantic.ValidationError: names each value at fault.
    """
    given = dict(changes or {})
    parts = given.pop("augmentation", None)
    if parts is not None:
        given["augmentation"] = {**look.model_dump(), **parts}
    return kind.model_validate({**profile, **given})
