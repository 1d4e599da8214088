"""All settings with their kinds, defaults and meaning, as a page: `panembed info --settings`, docs/settings.md."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from panembed.settings.schema import Settings

_KINDS = {int: "whole number", float: "number", bool: "true or false", str: "text"}


def settings_page() -> str:
    """A table in Markdown for each section of the settings.

    >>> "| `embedding_dim` | whole number | 16 |" in settings_page()
    True
    """
    parts = [
        "# Settings",
        "Written by `panembed info --settings`. `train --set SECTION.NAME=VALUE` changes one, a YAML file for\n"
        "`--config` those that it names; a preset is such a file. `predict`, `evaluate` and `panembed.load` take\n"
        "other ones of `input` and `grouping` than the model's own. `null` is none.",
    ]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            said = (section.__doc__ or "").split(";")[0].rstrip(".")
            rows = [_row(key, value) for key, value in section.model_fields.items()]
            table = ["| name | kind | default | what |", "|---|---|---|---|", *rows]
            parts += [f"## {name}", said + ".", "\n".join(table)]
        else:
            said = str(field.description)
            parts += [f"## {name}", f"{said[0].upper()}{said[1:]}."]
    return "\n\n".join(parts) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    default = _yaml(field.get_default(call_default_factory=True))
    return f"| `{name}` | {_kind(field.annotation)} | {default} | {field.description or ''} |"


def _kind(annotation: Any) -> str:
    """A type in words.

    >>> _kind(tuple[int, int] | None)
    '2 of: whole number; or null'
    """
    origin, within = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(within[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in within)
    if origin in (Union, types.UnionType):
        kinds = [_kind(kind) for kind in within if kind is not type(None)]
        return ", ".join(kinds) + ("; or null" if type(None) in within else "")
    if origin is tuple:
        return f"list of: {_kind(within[0])}" if within[-1] is ... else f"{len(within)} of: {_kind(within[0])}"
    if origin is dict:
        return "names with values"
    return _KINDS[annotation]


def _yaml(value: Any) -> str:
    """A default as it stands in a file.

    >>> _yaml(None), _yaml((0.6, 0.2)), _yaml(True), _yaml(0.001)
    ('null', '[0.6, 0.2]', 'true', '0.001')
    """
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
