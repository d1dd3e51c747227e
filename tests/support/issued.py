"""What tests gave out that no log may hold, and every log a server of this run wrote; `leaks` compares them.

Whoever makes a token, ticket, link or password hands it to `secret`; `RunningServer` names its logs and the secrets in
its settings, and the clients of `tests.support` the tokens that go through them. Document text that must stay out of
logs is `marked`. The last hook of a test run asks `leaks` (attack D15).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from collab.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHORTEST = 12
"""Characters below which a secret is no secret: it would be found in every log."""
MARK = "c0nfidential-marginalia"
"""Stands in every text that `marked` makes."""
SECRET_FIELDS = tuple(name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation))

_secrets: dict[str, str] = {MARK: "document text"}
_logs: dict[Path, None] = {}


def secret(value: str, what: str) -> str:
    """Remember ``value``, and give it back; ``what`` is said when a log holds it. A JWT's parts count by themselves."""
    for part in (value, *(value.split(".") if value.startswith("eyJ") else ())):
        # The header of a token is the same for everybody and says nothing.
        if len(part) >= SHORTEST and not (part != value and part == value.split(".")[0]):
            _secrets.setdefault(part, what)
    return value


def marked(text: str) -> str:
    """``text`` for a document, with the mark that no log may hold."""
    return f"{text} {MARK}"


def log(path: Path) -> None:
    """Remember a log; it is read at the end of the run, when it is still there."""
    _logs[path] = None


def settings(environment: Mapping[str, str]) -> None:
    """Remember the secrets among a server's variables: keys whole, of addresses the password."""
    for name in SECRET_FIELDS:
        value = environment.get(ENV_PREFIX + name.upper(), "")
        password = urlsplit(value).password if "://" in value else value
        if password:
            secret(unquote(password), ENV_PREFIX + name.upper())


def leaks(logs: Iterable[Path] | None = None) -> list[str]:
    """One sentence for each secret in a log; never the secret itself."""
    found = []
    for path in _logs if logs is None else logs:
        if not path.exists():
            continue
        text = path.read_text(errors="replace")
        for value, what in _secrets.items():
            if (at := text.find(value)) >= 0:
                line = text[text.rfind("\n", 0, at) + 1 : at][-120:]
                found.append(f"{path} holds a {what}, after: {line!r}")
    return found
