"""`accounts add`: accounts made by the operator, also where nobody can sign up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.operate import reached
from deploy.commands.person import ask_password
from deploy.commands.screen import say, show_json
from deploy.commands.service import Json
from deploy.errors import Misconfigured
from deploy.local.home import Home
from deploy.settings import Settings, given_settings, read_settings

accounts = typer.Typer(no_args_is_help=True, help="Accounts, made and kept by the operator.")


@accounts.command()
def add(
    name: str,
    password_file: Annotated[
        Path | None, typer.Option(help="File whose first line is the password.", metavar="FILE")
    ] = None,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")] = False,
    as_json: Json = False,
) -> None:
    """Make an account, straight in the database. Needs its address and the master key; in the data directory of a running
    `up` both are known."""
    from deploy.wiring.accounts import add_account

    settings = with_master_key()
    if password_file and password_stdin:
        raise Misconfigured("--password-file and --password-stdin are both given. Give one of them")
    password = _first_line(password_file) if password_file else ask_password(password_stdin, confirm=True)
    assert settings.database_url and settings.master_key
    made = asyncio.run(add_account(settings.database_url, settings.master_key, name, password))
    if as_json:
        show_json({"user_id": str(made.user_id), "name": made.name})
    else:
        say(f"{made.name} has an account: {made.user_id}")


def with_master_key() -> Settings:
    """The settings, with database and master key. The key of a data directory belongs to its own database only."""
    given, settings = read_settings(given_settings()), reached()
    if given.database_url is None and settings.database_url is not None and settings.master_key is None:
        file = Home(settings.data_dir).secrets / "master-key"
        settings = replace(settings, master_key=file.read_text(encoding="utf-8").strip() if file.is_file() else None)
    missing = [name for name in ("database_url", "master_key") if getattr(settings, name) is None]
    if missing:
        named = " and ".join(f"RESTANTE_{name.upper()}" for name in missing)
        raise Misconfigured(f"set {named}, or start `restante up` in the data directory")
    return settings


def _first_line(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise Misconfigured(f"--password-file {file} cannot be read ({reason})") from error


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(accounts, name="accounts")
