"""What an audit must remember, in bounded memory: the rows that were used last in memory, the others on disk.

A message may be acknowledged, and its id repeated, any time later, so no row may ever be forgotten. SQLite holds what does
not fit; its file is unlinked while it is open, so nothing is left behind however the audit ends.
"""

import itertools
import marshal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Generic, Self, TypeVar

NEAR_ROWS: Final = 40_000
_CACHE_KIB: Final = 16_384

Row = TypeVar("Row")


class Disk:
    """The file behind some shelves, made when the first row goes there. `directory` None is the machine's own for such."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._connection: sqlite3.Connection | None = None
        self._tables = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def table(self) -> tuple[sqlite3.Connection, str]:
        """The connection, and the name of a new table of rows by key."""
        if self._connection is None:
            self._connection = self._opened()
        name = f"shelf_{next(self._tables)}"
        self._connection.execute(f"CREATE TABLE {name} (key BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID")
        return self._connection, name

    def _opened(self) -> sqlite3.Connection:
        with tempfile.NamedTemporaryFile(prefix="restante-audit-", dir=self._directory) as file:
            connection = sqlite3.connect(file.name, isolation_level=None)
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{_CACHE_KIB}"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("CREATE TABLE opened (at INTEGER)")  # the file is there and locked before it loses its name
        return connection


class Shelf(Generic[Row]):
    """Rows by a number of 128 bits. A row that was taken may be changed in place until the next one is put or taken."""

    def __init__(
        self,
        disk: Disk,
        pack: Callable[[Row], tuple[Any, ...]],
        unpack: Callable[..., Row],
        *,
        near_rows: int = NEAR_ROWS,
    ) -> None:
        self._disk = disk
        self._pack = pack
        self._unpack = unpack
        self._near_rows = near_rows
        self._near: dict[int, Row] = {}
        self._far: tuple[sqlite3.Connection, str] | None = None

    def get(self, key: int) -> Row | None:
        """The row, if there is one."""
        row = self._near.get(key)
        return row if row is not None or self._far is None else self._fetched(key)

    def put(self, key: int, row: Row) -> None:
        """A new row, or another one in its place."""
        self._near[key] = row
        if len(self._near) > self._near_rows:
            self._spill()

    def items(self) -> Iterator[tuple[int, Row]]:
        """All rows; none may be put or taken meanwhile."""
        yield from self._near.items()
        if self._far is not None:
            connection, table = self._far
            for key, row in connection.execute(f"SELECT key, row FROM {table}"):  # noqa: S608 a name of our own
                number = int.from_bytes(key)
                if number not in self._near:
                    yield number, self._unpack(*marshal.loads(row))  # noqa: S302 written by this process

    def _fetched(self, key: int) -> Row | None:
        assert self._far is not None
        connection, table = self._far
        found = connection.execute(f"SELECT row FROM {table} WHERE key = ?", (key.to_bytes(16),)).fetchone()  # noqa: S608
        if found is None:
            return None
        row = self._unpack(*marshal.loads(found[0]))  # noqa: S302
        self.put(key, row)
        return row

    def _spill(self) -> None:
        """Half of the rows, those that were put first, in the order of their keys, as the table is."""
        if self._far is None:
            self._far = self._disk.table()
        connection, table = self._far
        going = list(itertools.islice(self._near, len(self._near) // 2))
        rows = [(key.to_bytes(16), marshal.dumps(self._pack(self._near.pop(key)))) for key in sorted(going)]
        connection.execute("BEGIN")
        connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", rows)  # noqa: S608
        connection.execute("COMMIT")
