"""What a person sees: tables and lines on a terminal, plain lines or JSON for programs."""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from collections.abc import Sequence
from typing import Any, Final, Self

from rich.console import Console
from rich.table import Table

out = Console(soft_wrap=True, highlight=False, markup=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


PROGRESS_SECONDS: Final = 10.0


def say(line: str) -> None:
    """One line of progress, at once also where nobody looks at a terminal."""
    if out.is_terminal:
        out.print(line)
    else:
        print(line, flush=True)


def printable(text: str) -> str:
    """What somebody else wrote, harmless to a terminal: control characters are shown as U+FFFD, further lines indented."""
    kept = "".join("\ufffd" if _controls(character) else character for character in text.expandtabs(8))
    return "\n    ".join(kept.splitlines()) if "\n" in kept else kept


def _controls(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character != "\n"


class Waiting:
    """Shows what is waited for: a moving line on a terminal, a plain one elsewhere."""

    def __init__(self) -> None:
        self._spinner = out.status("") if out.is_terminal else None

    def __call__(self, what: str | None) -> None:
        """Wait for this from now on; None: for nothing any more."""
        if self._spinner is None:
            if what:
                say(f"waiting for {what}")
        elif what:
            self._spinner.update(f"waiting for {what}")
            self._spinner.start()
        else:
            self._spinner.stop()


class Progress:
    """How far long work has come, on standard error: a moving line on a terminal, elsewhere a plain one each
    PROGRESS_SECONDS. `what` is counted."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = time.monotonic()
        self._status = errors.status("looking") if errors.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, done: int, total: int) -> None:
        """So many of so many."""
        line = f"{done:,} of {total:,} {self._what}"
        if self._status is not None:
            self._status.update(line)
        elif time.monotonic() - self._told >= PROGRESS_SECONDS:
            self._told = time.monotonic()
            errors.print(line)


def show_json(document: Any) -> None:
    """One JSON document, for programs."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Rows under headings: drawn on a terminal, separated by tabs elsewhere."""
    if not out.is_terminal:
        for row in rows:
            say("\t".join(row).rstrip())
        return
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")  # an id that is cut cannot be copied
    for row in rows:
        table.add_row(*row)
    out.print(table)
