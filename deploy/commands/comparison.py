"""`audit --against-projection`: the tables held against the log, and what differs, with the records that say so."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from deploy.commands.rebuild import both_reached
from deploy.commands.screen import Progress, printable, say, show_json, show_table

if TYPE_CHECKING:
    from projections.compare import Compared, Difference

KEPT: Final = 10_000
"""So many differences are in a JSON document at the most; all are counted."""


def hold_against_projection(as_json: bool) -> int:
    """Show each difference as it is found, and what was compared. The exit code."""
    from deploy.wiring.rebuild import run_compare

    settings, began = both_reached(), time.monotonic()
    kept: list[dict[str, Any]] = []

    def found(difference: Difference) -> None:
        if not as_json:
            say(_line(difference))
        elif len(kept) < KEPT:
            kept.append(_document(difference))

    with Progress("records") as progress:
        compared = run_compare(settings, found, lambda tally: progress(tally.records, tally.due))
    seconds = time.monotonic() - began
    if as_json:
        show_json({"clean": compared.clean, "seconds": round(seconds, 3), **_counts(compared), "differences": kept})
    else:
        rows = sum(compared.rows.values())
        show_table(
            ("table", "rows", "differences"),
            [(table, str(count), str(compared.differences[table])) for table, count in compared.rows.items()],
            title="The tables against the log",
        )
        say(f"{rows:,} rows in {seconds:.1f} s; {sum(compared.differences.values())} differ")
        say("clean: the projection is what the log says" if compared.clean else "run `restante rebuild` to make it so again")
    return 0 if compared.clean else 1


def _counts(compared: Compared) -> dict[str, Any]:
    offsets = [{"topic": topic, "partition": at, "offset": end} for (topic, at), end in sorted(compared.offsets.items())]
    tables = {table: {"rows": rows, "differences": compared.differences[table]} for table, rows in compared.rows.items()}
    return {"offsets": offsets, "tables": tables}


def _document(difference: Difference) -> dict[str, Any]:
    return {
        "table": difference.table,
        "key": _plain(difference.key),
        "live": None if difference.live is None else _plain(difference.live),
        "folded": None if difference.folded is None else _plain(difference.folded),
        "records": [
            {"what": cause.what, "log": {"topic": cause.topic, "partition": cause.partition, "offset": cause.offset}}
            for cause in difference.causes
        ],
    }


def _line(difference: Difference) -> str:
    key = " ".join(f"{column}={_shown(value)}" for column, value in difference.key.items())
    if difference.live is None:
        what = "is missing"
    elif difference.folded is None:
        what = "is there, and the log knows nothing of it"
    else:
        folded = difference.folded
        what = ", ".join(
            f"{column} is {_shown(value)} and should be {_shown(folded[column])}"
            for column, value in difference.live.items()
        )
    causes = ", ".join(f"{cause.what} {cause.topic}/{cause.partition}@{cause.offset}" for cause in difference.causes)
    return printable(f"{difference.table} {key}: {what}" + (f" ({causes})" if causes else ""))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {column: value if value is None or isinstance(value, int) else _shown(value) for column, value in row.items()}


def _shown(value: Any) -> str:
    """Bodies are sealed, and long: their length says enough."""
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 32 else f"{len(value)} bytes"
    return str(value)
