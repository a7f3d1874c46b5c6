"""The schema of a run as JSON Schema, with which editors complete, explain and check option files.

Derived from ``raylight.config.schema``: types, allowed words, ranges, defaults and docstrings. An option file of a group is
described by ``#/properties/GROUP``, a file of ``experiment`` by the whole. Draft 7 is the newest that YAML servers support.
"""

import ast
import dataclasses
import inspect
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from raylight.config import schema
from raylight.config.schema import Range, RunConfig

_TYPES = {
    bool: ["boolean"],
    int: ["integer"],
    float: ["number"],
    str: ["string", "number", "boolean"],
    type(None): ["null"],
}
"""The types that OmegaConf accepts: a number or boolean is also accepted as text."""

_INTERPOLATION = r"\$\{"
"""A text that refers to the value of another setting, such as ``${model.image_size}``."""

_DEFAULTS = {
    "type": "array",
    "description": "Option files on which this one is based; see Hydra's documentation of defaults lists.",
}
_TARGET = {
    "type": "string",
    "description": "Dotted name of the class or function that is called with the other settings.",
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of ``conf/train.yaml``, of experiments, and, below ``properties``, of each group's option files."""
    documented = _docstrings()
    sections = {name: one for name, one in vars(schema).items() if dataclasses.is_dataclass(one) and one is not Range}
    definitions = {name: _section(one, documented) for name, one in sections.items()}
    root = definitions.pop(RunConfig.__name__)
    root["properties"]["hydra"] = {"type": "object", "description": "Hydra's own settings."}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A run of Raylight",
        **root,
        "definitions": definitions,
    }


def _section(section: Any, documented: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The settings of a section; an option file may begin with a defaults list."""
    hints = get_type_hints(section, include_extras=True)
    properties: dict[str, Any] = {"defaults": _DEFAULTS}
    for setting in dataclasses.fields(section):
        described = {"description": text} if (text := documented[section.__name__].get(setting.name)) else {}
        default = {"default": setting.default} if setting.default is not dataclasses.MISSING else {}
        properties[setting.name] = {**described, **default, **_value(hints[setting.name])}
    summary = inspect.cleandoc(section.__doc__ or "").partition("\n")[0].replace("``", "`")
    return {"description": summary, "type": "object", "properties": properties, "additionalProperties": False}


def _value(hint: Any) -> dict[str, Any]:
    """The allowed values of a type hint, with the range or words in ``Annotated``."""
    limits = getattr(hint, "__metadata__", ())
    hint = hint.__origin__ if limits else hint
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for limit in limits:
        if get_origin(limit) is Literal:
            return {
                "anyOf": [
                    {"enum": _words(limit) + [None] * (type(None) in kinds)},
                    {"type": "string", "pattern": _INTERPOLATION},
                ]
            }
    if hint is Any and limits:
        number = {"type": "integer", "minimum": limits[0].low, "maximum": limits[0].high}
        two = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
        return {"anyOf": [number, two, {"type": "null"}, {"type": "string", "pattern": _INTERPOLATION}]}
    if hint is Any:
        return {"properties": {"_target_": _TARGET}, "additionalProperties": True}
    if dataclasses.is_dataclass(hint):
        return {"$ref": f"#/definitions/{getattr(hint, '__name__', '')}"}
    if get_origin(hint) is list:
        return {"type": "array", "items": _value(get_args(hint)[0])}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _value(get_args(hint)[1])}
    found: dict[str, Any] = {"type": [name for kind in kinds for name in _TYPES[kind]]}
    if str not in kinds:
        found |= {"type": [*found["type"], "string"], "pattern": _INTERPOLATION}
    for limit in limits:
        found |= {"minimum": limit.low, "maximum": limit.high}
    return found


def _words(literal: Any) -> list[Any]:
    """The allowed words, and their values in YAML without quotes: 32 for ``"32"``, true for ``"true"``."""
    words = get_args(literal)
    return [*words, *(read for word in words if (read := yaml.safe_load(word)) != word)]


def _docstrings() -> dict[str, dict[str, str]]:
    """The docstring of each field, by class and field, on one line; read from the source, since Python doesn't keep it."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(schema)).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = texts = {}
            for field, below in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(below, ast.Expr)
                    and isinstance(below.value, ast.Constant)
                ):
                    texts[ast.unparse(field.target)] = " ".join(str(below.value.value).replace("``", "`").split())
    return found
