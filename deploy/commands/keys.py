"""`keys`: new ones put into use, and old ones taken out, while the service runs."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from deploy.commands.accounts import with_master_key
from deploy.commands.screen import Waiting, out, say, show_json
from deploy.commands.service import Json
from deploy.errors import Refused
from deploy.key_files import KeyFile, Kind, key_file
from deploy.local.home import Home
from deploy.settings import MOST_ACCESS_SECONDS, Settings, given_settings, read_settings

keys = typer.Typer(no_args_is_help=True, help="The keys of the service: master, token and cursor.")
Which = Annotated[Kind, typer.Argument(help="master (wraps the accounts' keys), token (signs access tokens) or cursor.")]
_AFTER_SECONDS = MOST_ACCESS_SECONDS + 60
_SHOWN_SECONDS = 1.0


@keys.command()
def new(which: Which) -> None:
    """Print a new key, for those who keep their keys themselves."""
    out.print(which.make())


@keys.command()
def rotate(which: Which, as_json: Json = False) -> None:
    """Put a new key into use; what the old ones made stays good. In the data directory of `up`, while it runs or not. A new
    master key also wraps the key of every account anew; killed on the way, run it again."""
    settings = read_settings(given_settings())
    if which is Kind.MASTER:
        _rotate_master(settings, as_json)
        return
    with _own_file(which, settings) as file:
        file.add()
        _said(as_json, {"kind": which.value, "keys": len(file.read())}, f"a new {which.value} key is in use")


@keys.command()
def retire(
    which: Which,
    now: Annotated[bool, typer.Option("--now", help="Also where access tokens of the old keys are still alive.")] = False,
    as_json: Json = False,
) -> None:
    """Take all keys but the newest out. What only they can open or verify is lost to the service: backups need the keys
    of their time."""
    settings = read_settings(given_settings())
    if which is Kind.CURSOR:
        raise Refused("cursors are good for ever, and so are their keys. There is nothing to retire")
    with _own_file(which, settings) as file:
        first, *others = file.read()
        if others:
            _check_unused(file, now)
            file.write([first])
        _said(as_json, {"kind": which.value, "retired": len(others)}, f"{len(others)} old {which.value} keys taken out")


def _rotate_master(given: Settings, as_json: bool) -> None:
    """Where accounts are left under an older key, finish that; else begin with a new one."""
    mine = given.master_key is None and given.database_url is None
    settings = with_master_key()
    if not mine:
        _rewrap(settings, as_json)
        return
    with _own_file(Kind.MASTER, given) as file:
        if not _left(file, settings):
            file.add()
        _rewrap(replace(settings, master_key=Kind.MASTER.text_of(file.read())), as_json)


def _rewrap(settings: Settings, as_json: bool) -> None:
    from deploy.wiring.rotation import rewrap_accounts

    assert settings.database_url and settings.master_key
    progress = _Progress(as_json)
    try:
        done = asyncio.run(rewrap_accounts(settings.database_url, settings.master_key, progress))
    finally:
        progress.over()
    many = len(Kind.MASTER.keys_in(settings.master_key))
    unusable = [str(user_id) for user_id in done.unusable]
    said = {"kind": "master", "keys": many, "accounts": done.accounts, "rewrapped": done.changed, "unusable": unusable}
    under = done.accounts - len(unusable)
    _said(as_json, said, f"{under} of {done.accounts} accounts are under the first master key, {done.changed} since now")
    if unusable:
        raise Refused(
            f"the keys of {len(unusable)} accounts open with none of the master keys, for example {unusable[0]}. "
            "Give the master key that they were made with, behind the others"
        )
    if many == 1 and not done.changed:
        raise Refused(_by_hand(Kind.MASTER))


def _own_file(which: Kind, settings: Settings) -> AbstractContextManager[KeyFile]:
    """The key file of `up`. Refused, with what to do instead, where the key is set from outside."""
    if getattr(settings, which.setting) is not None:
        raise Refused(_by_hand(which))
    return key_file(which, Home(settings.data_dir))


def _by_hand(which: Kind) -> str:
    return (
        f"{which.variable} is set, so its keys are yours to keep. Put a new one (`restante keys new {which.value}`) behind "
        "the one in use for all API processes, then in front of it; docs/operating.md says every step"
    )


def _check_unused(file: KeyFile, now: bool) -> None:
    """Refused while an old key is still needed."""
    if file.kind is Kind.MASTER:
        left = _left(file, with_master_key())
        if left:
            raise Refused(f"{left} accounts need an older master key. Run `restante keys rotate master` first")
        return
    until = file.path.stat().st_mtime + _AFTER_SECONDS
    if time.time() < until and not now:
        at = datetime.fromtimestamp(until, UTC).strftime("%H:%M:%SZ")
        raise Refused(f"access tokens of an older key are good until {at}. Run this again then, or end them with --now")


def _left(file: KeyFile, settings: Settings) -> int:
    from deploy.wiring.rotation import accounts_under_older

    assert settings.database_url
    return asyncio.run(accounts_under_older(settings.database_url, file.kind.text_of(file.read())))


def _said(as_json: bool, document: dict[str, Any], line: str) -> None:
    if as_json:
        show_json(document)
    else:
        say(line)


class _Progress:
    """Says how far it is, once in a while."""

    def __init__(self, quiet: bool) -> None:
        self._waiting = None if quiet else Waiting()
        self._said = time.monotonic()

    def __call__(self, passed: int, of_all: int) -> None:
        if self._waiting is not None and time.monotonic() - self._said >= _SHOWN_SECONDS:
            self._said = time.monotonic()
            self._waiting(f"the keys of the accounts: {passed} of {of_all}")

    def over(self) -> None:
        if self._waiting is not None:
            self._waiting(None)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(keys, name="keys")
