"""The command line. Exit codes: 0 clean, 1 findings or refused, 2 usage, 3 could not look or start, 130 interrupted."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from rich.table import Table
from typer import _click as click  # typer carries its own copy of click; its errors have no public name
from typer.core import TyperGroup

from deploy.commands import (
    accounts,
    demo,
    evidence,
    grants,
    keys,
    listen,
    operate,
    person,
    proof,
    quarantine,
    rebuild,
    service,
)
from deploy.commands.screen import errors, out
from deploy.errors import DeployError
from deploy.settings import TABLE


class _WithSettings(TyperGroup):
    """`--help` ends with the table of settings."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help(ctx, formatter)
        table = Table(title="Settings (environment)", title_justify="left", box=None, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for row in TABLE:
            table.add_row(row.variable + (" *" if row.secret else ""), f"{row.meaning} ({row.shown})")
        out.print(table)
        out.print(
            "In brackets: the default. *: a secret, also as ..._FILE with a path. Times: 30s, 15m, 12h, 365d, or seconds."
        )
        out.print("Exit codes: 0 clean, 1 findings or refused, 2 usage, 3 could not look or start, 130 interrupted.")


app = typer.Typer(cls=_WithSettings, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Restante: messages wait for whoever is away.

    `restante up` runs everything on this machine, `restante demo` shows what it does.
    """


for module in (
    service,
    operate,
    grants,
    rebuild,
    evidence,
    accounts,
    keys,
    quarantine,
    person,
    listen,
    demo,
    proof,
):
    module.register(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code. What goes wrong is said on standard error in one place, here."""
    try:
        result: Any = app(
            args=list(arguments) if arguments is not None else None, prog_name="restante", standalone_mode=False
        )
    except DeployError as error:
        errors.print(f"restante: {error}")
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


def main() -> None:
    """The entry point."""
    sys.exit(run())


if __name__ == "__main__":
    main()
