"""The `collab` program: its commands and their help."""

from __future__ import annotations

from typing import Annotated

import typer

from collab import __version__
from collab.cli import doctor, serve, token, transfer
from collab.cli.console import plainly, say

app = typer.Typer(
    name="collab",
    help="A self-hosted collaborative-editing backend for Yjs editors.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and leave.", is_eager=True)] = False,
) -> None:
    if show_version:
        say(f"collab {__version__}")
        raise typer.Exit


app.command("serve")(plainly(serve.serve))
app.command("migrate")(plainly(transfer.migrate))
app.command("export")(plainly(transfer.export))
app.command("import")(plainly(transfer.import_))
app.command("doctor")(plainly(doctor.doctor))
app.command("token")(plainly(token.token))


def main() -> None:
    """Run the program; the entry point of the `collab` script."""
    app()
