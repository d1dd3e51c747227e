"""The editor page: what Vite built from `clients/web`, with the headers that keep it to itself.

The built files are read once, when the routes are made, so a page and its scripts always belong together. Nothing
here knows documents; the page uses REST and the WebSocket like any other client.
"""

from __future__ import annotations

import gzip
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

_HERE = Path(__file__).resolve().parent
FOLDERS: Final = (_HERE / "page", _HERE.parent.parent / "clients" / "web" / "dist")
"""Where the built page may be: inside the installed package, or in the checkout of an editable installation."""
NOT_BUILT: Final = (
    "The editor page is not built: run `pip install .` in the checkout, or `npm ci && npm run build` in clients/web, "
    "and start the server again."
)
_YEAR_S: Final = 31_536_000
_WORTH_COMPRESSING: Final = ("text/", "image/svg+xml", "application/json")
_CSP: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "object-src": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "ProseMirrorClipboard",
}
_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    # Names of documents live in addresses, and knowing one can be all it takes to read it.
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), usb=(), payment=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    compressed: bytes | None
    media_type: str
    cache: str


def page_folder() -> Path | None:
    """The folder of the built page, or None when it was not built."""
    return next((folder for folder in FOLDERS if (folder / "index.html").is_file()), None)


def page_routes(folder: Path | None = None, *, public_url: str | None = None) -> list[Route]:
    """Routes for `/`, `/d/{name}` and the files they load; ``folder`` defaults to `page_folder()`.

    The list and every document are the same HTML, which asks REST what to show. Without a built page the two
    addresses answer 503 with a sentence saying what to run. ``public_url`` is where browsers find all of it.
    """
    folder, safe = folder or page_folder(), {**_HEADERS, "Content-Security-Policy": _policy(public_url)}
    if folder is None:

        async def not_built(_: Request) -> Response:
            return PlainTextResponse(NOT_BUILT, status_code=503, headers={**safe, "Cache-Control": "no-store"})

        return [Route("/", not_built), Route("/d/{name}", not_built)]
    files = {path.relative_to(folder).as_posix(): _read(path, folder) for path in folder.rglob("*") if path.is_file()}
    index = files.pop("index.html")

    async def show(request: Request) -> Response:
        return _respond(request, index, safe)

    async def load(request: Request) -> Response:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        return _respond(request, files[path.lstrip("/")], safe)

    return [Route("/", show), Route("/d/{name}", show), *(Route(f"/{name}", load) for name in sorted(files))]


def _policy(public_url: str | None) -> str:
    # 'self' covers the WebSocket of the same origin too, but not in every browser that is still around (CSP level 2).
    socket = ("ws" + "/".join(public_url.lower().split("/")[:3]).removeprefix("http"),) if public_url else ()
    rules = {**_CSP, "connect-src": " ".join((_CSP["connect-src"], *socket))}
    return "; ".join(f"{directive} {value}" for directive, value in rules.items())


def _respond(request: Request, file: _File, safe: Mapping[str, str]) -> Response:
    headers = {**safe, "Cache-Control": file.cache, "Vary": "Accept-Encoding"}
    if file.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, media_type=file.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(file.body, media_type=file.media_type, headers=headers)


def _read(path: Path, folder: Path) -> _File:
    body = path.read_bytes()
    media_type = _media_type(path)
    compressed = gzip.compress(body, mtime=0) if media_type.startswith(_WORTH_COMPRESSING) else None
    # A name with its content's hash in it never changes its meaning; the others may, with every release.
    hashed = path.relative_to(folder).parts[0] == "assets"
    return _File(body, compressed, media_type, f"public, max-age={_YEAR_S}, immutable" if hashed else "no-cache")


def _media_type(path: Path) -> str:
    # The machine's own table may say anything about scripts, and a browser runs none that are called plain text.
    known = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    return known.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
