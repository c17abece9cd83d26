"""Sections of a config as pydantic models, and what is said of a value that they refuse."""

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from jaxes.config.files import ConfigError, suggest


class Section(BaseModel):
    """A section of a config: no unknown fields, no coercion (`true` is no number), no NaN."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        frozen=True,
        ser_json_inf_nan="constants",  # of an environment's options, into which nothing looks
    )


class Checked:
    """The data of a config that fits its model.

    Attributes:
      resolved: the whole of it as plain data, every default of what it uses filled in.
    """

    def __init__(self, model: type[Section], data: dict[str, Any]):
        self._model: Any = validate(model, data)
        self.resolved: dict[str, Any] = self._model.model_dump(mode="json", exclude_none=True)


def section_of(factory: Callable, omit: tuple[str, ...] = (), **extra: Any) -> type[Section]:
    """A model with a field for each argument of `factory` that a config can express."""
    try:
        hints = typing.get_type_hints(factory)
    except Exception as error:  # a name that is imported for a type checker alone, say
        name = getattr(factory, "__name__", repr(factory))
        raise ConfigError(f"{name}: its annotations cannot be read: {error}") from error
    fields: dict[str, Any] = dict(extra)
    for name, parameter in inspect.signature(factory).parameters.items():
        kind = _settings_type(hints.get(name))
        if name not in omit and kind is not None:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (kind, default)
    return create_model(factory.__name__, __base__=Section, **fields)


def _settings_type(annotation: Any) -> Any:
    """The part of an annotation that a config can express; None if there is none."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        parts = [part for part in map(_settings_type, get_args(annotation)) if part is not None]
        useful = [part for part in parts if part is not type(None)]
        return Union[tuple(parts)] if useful else None  # noqa: UP007
    if annotation in (bool, int, float, str, type(None)) or origin in (tuple, Literal):
        return annotation
    if origin in (dict, Mapping):
        return dict[str, Any]
    return None


def validate(model: type[Section], data: dict[str, Any], where: str = "") -> Any:
    """The data as that model; `where` stands before the names of its fields.

    Raises:
      ConfigError: a field or value is not allowed; the message names it.
    """
    try:
        text = json.dumps(data)
    except (TypeError, ValueError) as error:  # YAML knows sets and cycles, JSON does not
        raise ConfigError(f"config: {error}") from error
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        said = (where + _explain(each, model) for each in error.errors())
        raise ConfigError("; ".join(said)) from error


def _explain(error: Any, model: Any) -> str:
    """One clause for one of pydantic's errors: the field, the value, what is allowed."""
    location = [str(part) for part in error["loc"]]
    # A name with a line break stays on its line.
    field, value = repr(".".join(location))[1:-1], error.get("input")
    match error["type"]:
        case "extra_forbidden":
            allowed = list(_model_at(model, location[:-1]).model_fields)
            return f"{field}: unknown field{suggest(location[-1], allowed)}"
        case "missing":
            return f"{field}: required"
        case "model_type" | "model_attributes_type":
            return f"{field}: expected a section, got {value!r}"
        case "literal_error":
            allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            return f"{field}: unknown value {value!r}{suggest(value, allowed)}"
    said = error["msg"].replace("a valid array", "a list")
    return f"{field}: {said[0].lower()}{said[1:]}, got {value!r}"


def _model_at(model: Any, location: list[str]) -> Any:
    for part in location:
        if part not in model.model_fields:
            continue  # a key of a dict of sections
        annotation = model.model_fields[part].annotation
        model = next(kind for kind in (annotation, *get_args(annotation)) if _is_section(kind))
    return model


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)
