"""`collab serve`: run one node. Its options are made from `Settings`, so none can be missing or say something else."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Optional

import typer

from collab import __version__
from collab.cli.console import fail, note, settings
from collab.settings import describe

if TYPE_CHECKING:
    from collab.settings import Setting, Settings

_NOT_ON_THE_COMMAND_LINE = frozenset({"jwt_secret", "jwt_secret_old", "bus_secret"})
"""Every user of the machine can read a command line."""


def serve(**given: Any) -> None:
    """Serve documents over WebSocket and REST, and the editor page.

    Every option can be set as an environment variable too; COLLAB_JWT_SECRET, COLLAB_JWT_SECRET_OLD and
    COLLAB_BUS_SECRET only there. Stop with Ctrl-C or SIGTERM: what is unsaved is saved first.
    """
    wanted = settings(**given)
    if objections := wanted.objections():
        fail(*objections, code=2)
    for line in banner(wanted):
        note(line)
    from collab.server.page import NOT_BUILT, page_folder
    from collab.server.run import serve as run

    if wanted.serve_page and page_folder() is None:
        note(f"  {NOT_BUILT}")

    if not run(wanted):
        fail("Stopped before everything was saved, or never started; the log above says why.")


def banner(wanted: Settings) -> list[str]:
    """What somebody who starts a server wants to know."""
    return [
        f"collab {__version__}",
        f"  Editor    {address(wanted)}" if wanted.serve_page else f"  Address   {address(wanted)}",
        f"  Database  {wanted.database_shown}",
        f"  Bus       {wanted.redis_shown or 'none: this node has no others'}",
        f"  Access    {_access(wanted)}",
    ]


def address(wanted: Settings) -> str:
    """Where to point a browser."""
    if wanted.public_url:
        return wanted.public_url
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(wanted.host, wanted.host)  # noqa: S104
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{host}:{wanted.port}/"


def _access(wanted: Settings) -> str:
    if wanted.auth == "jwt":
        return "signed tokens only"
    reach = "this machine" if wanted.is_loopback else "ANYBODY WHO REACHES THIS ADDRESS"
    return f"open: {reach} may read and write every document"


def _option(setting: Setting) -> inspect.Parameter:
    flag = f"--{setting.name.replace('_', '-')}"
    if setting.kind == "bool":
        names, kind, metavar = [f"{flag}/--no-{flag[2:]}"], Optional[bool], None  # noqa: UP045
    else:
        names, kind, metavar = [flag], Optional[str], _metavar(setting)  # noqa: UP045
    text = setting.description + (f" [default: {setting.default}]" if setting.default else "")
    option = typer.Option(
        None, *names, envvar=setting.variable, help=text, metavar=metavar, show_default=False, show_envvar=True
    )
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind)


def _metavar(setting: Setting) -> str:
    if setting.name.endswith("_s") and not setting.name.endswith("_per_s"):
        return "SECONDS"
    return {"str": "TEXT", "int": "N", "float": "N", "list": "A,B"}.get(setting.kind, setting.kind)


serve.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [_option(setting) for setting in describe() if setting.name not in _NOT_ON_THE_COMMAND_LINE]
)
