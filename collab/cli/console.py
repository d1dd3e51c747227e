"""How commands speak: results on standard output, everything else on standard error, mistakes in one sentence."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, NoReturn, ParamSpec

import typer
from pydantic import ValidationError

from collab.errors import CollabError, Forbidden, InvalidName, Misuse
from collab.settings import Settings, sentences

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")


def say(text: str) -> None:
    """A result, for people or for the next program."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Something worth knowing that is not the result."""
    sys.stderr.write(f"{text}\n")


def fail(*reasons: str, code: int = 1) -> NoReturn:
    """End the command, saying why."""
    for reason in reasons:
        note(f"collab: {reason}")
    raise typer.Exit(code)


def plainly(command: Callable[P, None]) -> Callable[P, None]:
    """Make ``command`` tell its errors in a sentence each instead of a traceback."""

    @functools.wraps(command)
    def spoken(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except typer.Exit:
            raise
        except ValidationError as error:
            fail(*sentences(error), code=2)
        except (Misuse, InvalidName, Forbidden) as error:
            fail(_sentence(error), code=2)
        except (CollabError, OSError) as error:
            fail(_sentence(error))
        except KeyboardInterrupt:
            fail("stopped", code=130)
        except Exception as error:
            if os.environ.get("COLLAB_LOG_LEVEL") == "debug":
                raise
            fail(f"a fault of collab itself: {type(error).__name__}; COLLAB_LOG_LEVEL=debug shows where.")

    return spoken


def settings(**given: object) -> Settings:
    """The settings from the environment, and over them those ``given`` on the command line (None: not given)."""
    return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return f"{text.rstrip('.')}."
