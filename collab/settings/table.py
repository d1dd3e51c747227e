"""The settings as people read them: the README's table, the command line's options, what is wrong in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import SecretStr

from collab.settings.fields import Settings
from collab.settings.objections import ENV_PREFIX

if TYPE_CHECKING:
    from pydantic import ValidationError


class Setting(NamedTuple):
    """One row of the configuration table."""

    name: str
    """Of the field."""
    variable: str
    kind: str
    default: str
    """Empty when there is none."""
    description: str


def describe() -> tuple[Setting, ...]:
    """Every setting, in the order of the class; the README's table is made from this."""
    return tuple(
        Setting(
            name, ENV_PREFIX + name.upper(), _kind(field.annotation), _shown(field.default), field.description or ""
        )
        for name, field in Settings.model_fields.items()
    )


def markdown_table() -> str:
    """The configuration table of the README."""
    rows = (
        f"| `{row.variable}` | {f'`{row.default}`' if row.default else ''} | {row.description} |" for row in describe()
    )
    return "\n".join(("| Variable | Default | What it does |", "|---|---|---|", *rows))


def sentences(error: ValidationError) -> tuple[str, ...]:
    """What is wrong with settings, as sentences for a person; never a value, which may be a secret."""
    return tuple(
        f"{ENV_PREFIX}{'_'.join(map(str, problem['loc'][:1])).upper()}: {problem['msg'].removeprefix('Value error, ')}."
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    )


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list"
    members = [member for member in get_args(annotation) if member is not type(None)]
    kind = members[0] if members else annotation
    return "str" if kind is SecretStr else str(kind.__name__)


def _shown(default: Any) -> str:
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(default)
    return "" if default is None else str(default)
