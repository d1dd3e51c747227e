"""Every REST route, read from the server's own OpenAPI, with a request that fits it: nothing here names a route.

A route added tomorrow is attacked tomorrow. What a route needs follows from rules about its method and path, which are
the rules of the server put down a second time: `needs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from collab.engine.inline import InlineEngine
from collab.room.session import Role
from collab.server.app import Collab
from collab.settings import Settings
from collab.store import MemoryStore
from tests.support.tokens import KEY

SAFE = frozenset({"get", "head"})
ADMIN_WORDS = frozenset({"grants", "links", "audit", "revocations"})
"""Path segments below which one says, or reads, who may do what."""
NAMES_OF_DOCUMENTS = ("name", "document")
"""Fields of a body that name the document a route without `{name}` is about."""
NEEDS_ONLY_ACCESS = frozenset({"tickets"})
"""Path segments of routes that give the caller no more than it has."""
EMPTY_UPDATE = b"\x00\x00"
Scope = Literal["document", "everything", "listing"]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    operation: dict[str, Any]
    components: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def words(self) -> frozenset[str]:
        """Fixed segments of the path."""
        return frozenset(part for part in self.path.split("/") if part and not part.startswith("{"))

    @property
    def scope(self) -> Scope:
        """What a right must be about: one document, all of them, or whatever the answer then shows."""
        if "{name}" in self.path or self.body_names_document:
            return "document"
        return "listing" if self.method in SAFE and not self.words & ADMIN_WORDS else "everything"

    @property
    def needs(self) -> Role:
        """The least role that passes."""
        if self.words & ADMIN_WORDS:
            return Role.ADMIN
        return Role.READ if self.method in SAFE or self.words & NEEDS_ONLY_ACCESS else Role.WRITE

    @property
    def media_type(self) -> str | None:
        """Of the body it takes; None when it takes none."""
        content = self.operation.get("requestBody", {}).get("content", {})
        return next(iter(content), None)

    @property
    def body_schema(self) -> dict[str, Any]:
        """Of a JSON body; empty when there is none."""
        if self.media_type != "application/json":
            return {}
        return self._resolved(self.operation["requestBody"]["content"]["application/json"]["schema"])

    @property
    def body_names_document(self) -> bool:
        """Whether the document stands in the body instead of the path."""
        return "{name}" not in self.path and any(
            name in self.body_schema.get("properties", {}) for name in NAMES_OF_DOCUMENTS
        )

    def request(self, document: str, **ids: int) -> dict[str, Any]:
        """Arguments for `httpx.Client.request` that fit this route, about ``document`` and what has these ``ids``."""
        path, query = self.path, {}
        for parameter in self.operation.get("parameters", ()):
            known = {"name": document, **ids}
            value = known.get(parameter["name"]) or self._example(parameter["schema"], parameter)
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", str(value))
            elif parameter["in"] == "query" and parameter.get("required"):
                query[parameter["name"]] = value
        found: dict[str, Any] = {"method": self.method.upper(), "url": path, "params": query}
        if self.media_type == "application/json":
            found["json"] = self.body(document)
        elif self.media_type is not None:
            found["content"], found["headers"] = EMPTY_UPDATE, {"Content-Type": self.media_type}
        return found

    def body(self, document: str) -> Any:
        """The smallest JSON body that has what is required."""
        made = self._example(self.body_schema)
        if self.body_names_document:
            made |= {name: document for name in NAMES_OF_DOCUMENTS if name in self.body_schema["properties"]}
        return made

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        for choice in schema.get("anyOf", ()):
            if choice.get("type") != "null":
                return self._resolved(choice)
        if "$ref" in schema:
            return self._resolved(self.components[schema["$ref"].rpartition("/")[2]])
        return schema

    def _example(self, schema: dict[str, Any], around: dict[str, Any] | None = None) -> Any:
        schema = self._resolved(schema)
        if schema.get("type") == "object" or "properties" in schema:
            required = schema.get("required", ())
            if not required and "examples" in schema:  # one of several must be there, which a schema cannot say
                return dict(schema["examples"][0])
            return {name: self._example(part) for name, part in schema["properties"].items() if name in required}
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        choices = schema.get("enum") or schema.get("examples") or (around or {}).get("examples")
        if choices:
            return choices[0] if isinstance(choices, list) else next(iter(choices.values()))["value"]
        kinds = {"integer": schema.get("minimum", 1), "number": 1.0, "boolean": True, "array": [], "string": "x"}
        return kinds.get(schema.get("type", ""), "x")


@cache
def openapi() -> dict[str, Any]:
    """The schema of a server with default settings that asks for tokens."""
    settings = Settings(auth="jwt", jwt_secret=KEY, serve_page=False)  # type: ignore[arg-type]
    return Collab(settings, store=MemoryStore(), engine=InlineEngine()).app.openapi()


@cache
def routes() -> tuple[Route, ...]:
    """All of them."""
    schema = openapi()
    components = schema["components"]["schemas"]
    return tuple(
        Route(method, path, operation, components)
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    )
