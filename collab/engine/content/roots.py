"""Which shared type a request means, and of which type it is: the wire says neither.

A root is a name and the items under it. Editors agree on a few names, and items betray the type.
"""

from __future__ import annotations

from typing import Final

from collab.engine.content.model import ELEMENT, FRAGMENT, HOOK, XMLTEXT, Embed, Node, Run
from collab.engine.port import RootType

EDITOR_ROOTS: Final[dict[str, RootType]] = {
    "default": "xml",  # Tiptap's Collaboration extension
    "prosemirror": "xml",  # y-prosemirror's examples
    "document-store": "xml",  # BlockNote
    "codemirror": "text",
    "monaco": "text",
    "quill": "text",
    "root": "text",  # Lexical
    "content": "text",
    "text": "text",
    "document": "text",
}
"""Names editors give their shared type, best known first, and the type they expect to find."""

COMPOSED_XML_ROOT: Final = "default"
"""Where composed rich text goes when no root is named: Tiptap looks there."""

COMPOSED_PLAIN_ROOT: Final = "content"
"""Where a composed text, map or array goes when no root is named."""


def choose(roots: dict[str, Node], name: str | None) -> tuple[str | None, Node]:
    """The root that ``name`` means; None means the only one, else the best-known name, else the first in name order.

    A name the document does not have yet is an empty root, as it is in Yjs: a document nobody has typed in has none.
    """
    if name is None:
        if not roots:
            return None, Node(None)
        name = next((known for known in EDITOR_ROOTS if known in roots), min(roots)) if len(roots) > 1 else min(roots)
    return name, roots.get(name) or Node(None)


def infer(name: str | None, root: Node) -> RootType:
    """The type of ``root`` from its items, or from its name when nothing is in it."""
    for child in root.children:
        if isinstance(child, Run | Embed):
            return "text"
        if not isinstance(child, Node):
            return "array"
        if child.kind in (ELEMENT, FRAGMENT, HOOK):
            return "xml"
        if child.kind == XMLTEXT:
            # y-prosemirror gives its texts neither attributes nor shared types; Lexical and Slate live on them.
            foreign = child.attrs or any(isinstance(inner, Node) for inner in child.children)
            return "text" if foreign else "xml"
        return "array"
    if root.attrs:
        return "map"
    return EDITOR_ROOTS.get(name or "", "text")
