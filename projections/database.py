"""PostgreSQL: one pool a process, named statements, errors that say who must act.

A statement is text in a `.sql` file below a line `-- name: x` and a sentence. Parameters are `%(name)s`; rows become the
dataclass that is asked for, by column name.
"""

import asyncio
import re
import select
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from types import TracebackType
from typing import Any, Final, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import AsyncRowFactory, class_row, tuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from projections import columns
from projections.errors import DatabaseUnavailable, NotGranted, NotMigrated, ProjectionBehind, ProjectionMoved
from projections.pointer import MOVED, Line, Pointer

T = TypeVar("T")
Statement = bytes

WAIT_SECONDS: Final = 2.0
"""At most this long for a connection."""

ANSWER_SECONDS: Final = 4.0
"""At most this long for one statement; then the connection is cut."""

SETTINGS: Final = b"""
SET jit = off;
SET enable_seqscan = off;
SET plan_cache_mode = auto
"""
"""Tables of the projection go by their bare name, so that a rebuilt schema can take the place of the live one (`pointer`);
those of accounts are written `accounts.x`. Every statement here goes by a key: a sequential scan is at best a plan that was
made while the table was small, and would live on in the prepared statement."""

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


def load_queries(package: str, file: str) -> Mapping[str, Statement]:
    """The named statements of `sql/<file>` in a package: name -> statement."""
    text = (files(package) / "sql" / file).read_text()
    parts = _NAME.split(text)
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{package}/sql/{file} has a name twice")
    return {name: body.strip().removesuffix(";").encode() for name, body in zip(names, bodies, strict=True)}


class Connection:
    """A connection while it is ours: runs statements. What `Database.connection` and `Database.transaction` give. Outside a
    transaction a statement that looked into a schema which a rebuild has replaced is asked again in the live one."""

    __slots__ = ("_pointer", "_raw", "_seconds")

    def __init__(self, raw: Line, pointer: Pointer, *, seconds: float = ANSWER_SECONDS) -> None:
        self._raw = raw
        self._pointer = pointer
        self._seconds = seconds

    async def all(self, into: Callable[..., T], statement: Statement, **params: Any) -> list[T]:
        """Every row, as `into(**columns)`."""
        return await self._asked(class_row(into), statement, params)  # type: ignore[arg-type]

    async def one(self, into: Callable[..., T], statement: Statement, **params: Any) -> T | None:
        """The first row as `into(**columns)`, or None."""
        rows = await self.all(into, statement, **params)
        return rows[0] if rows else None

    async def tuples(self, statement: Statement, **params: Any) -> list[tuple[Any, ...]]:
        """Every row as a tuple."""
        return await self._asked(tuple_row, statement, params)

    async def run(self, statement: Statement, **params: Any) -> int:
        """How many rows a statement without a result touched."""
        try:
            return await self._ran(statement, params)
        except psycopg.Error as error:
            if not await self._pointer.turned(self._raw, error):
                raise
        return await self._ran(statement, params)

    async def turn(self) -> None:
        """Look into the live schema, as it is in the snapshot of this question."""
        async with self._within():
            await self._pointer.turn(self._raw)

    async def _asked(self, into: AsyncRowFactory[T], statement: Statement, params: Mapping[str, Any]) -> list[T]:
        try:
            return await self._fetched(into, statement, params)
        except psycopg.Error as error:
            if not await self._pointer.turned(self._raw, error):
                raise
        return await self._fetched(into, statement, params)

    async def _fetched(self, into: AsyncRowFactory[T], statement: Statement, params: Mapping[str, Any]) -> list[T]:
        cursor = self._raw.cursor(row_factory=into, binary=True)
        async with self._within():
            await cursor.execute(statement, params)
            return await cursor.fetchall()

    async def _ran(self, statement: Statement, params: Mapping[str, Any]) -> int:
        async with self._within():
            return (await self._raw.execute(statement, params)).rowcount

    @asynccontextmanager
    async def _within(self) -> AsyncIterator[None]:
        """Cut the connection where the server takes no notice of us: cancelling would ask that same server first."""
        cut = asyncio.get_running_loop().call_later(self._seconds, _cut, self._raw)
        try:
            yield
        finally:
            cut.cancel()


class Database:
    """The pool. Opening it waits for nothing: the first statement does, so a process starts while PostgreSQL is away.

    Statements raise `DatabaseUnavailable` within WAIT_SECONDS + ANSWER_SECONDS; the pool reconnects by itself.
    """

    def __init__(self, url: str, *, most: int = 8, wait_seconds: float = WAIT_SECONDS) -> None:
        self.url = url
        self._pointer = Pointer()
        self._pool: AsyncConnectionPool[Line] = AsyncConnectionPool(
            url,
            connection_class=Line,
            open=False,
            min_size=1,
            max_size=most,
            timeout=wait_seconds,
            check=_check,
            configure=self._configure,
            # An attempt that gives up early lets the next asker start a new one: recovery never waits for a long back-off.
            reconnect_timeout=wait_seconds,
            kwargs=connect_options(),
        )

    async def __aenter__(self) -> "Database":
        await self._pool.open(wait=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection where each statement stands alone."""
        with translated():
            async with self._lent() as raw:
                yield Connection(raw, self._pointer)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection whose statements take effect together at the end, or not at all if the block raises."""
        with translated():
            async with self._lent() as raw, raw.transaction():
                yield Connection(raw, self._pointer)

    @asynccontextmanager
    async def snapshot(self, *, seconds: float = ANSWER_SECONDS) -> AsyncIterator[Connection]:
        """A connection whose statements all see the same state, and change nothing. Its first question is which schema is
        live, so all of them look into the one that is live in what they see. `seconds` is what each statement may take."""
        with translated():
            async with self._lent() as raw, _steady(raw), raw.transaction():
                connection = Connection(raw, self._pointer, seconds=seconds)
                await connection.turn()
                yield connection

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[Line]:
        """A connection of the pool. It waits with asyncio.wait_for, which in Python 3.11 loses a cancellation that comes in
        the same moment as the connection: whoever cancelled us would wait for ever."""
        before = _cancellations()
        async with self._pool.connection() as raw:
            if _cancellations() > before:
                raise asyncio.CancelledError
            if raw.place != self._pointer.live:
                await self._pointer.turn(raw)
            yield raw

    async def _configure(self, raw: Line) -> None:
        await configure(raw)
        await self._pointer.turn(raw)

    async def all(self, into: Callable[..., T], statement: Statement, **params: Any) -> list[T]:
        """`Connection.all` on any connection."""
        async with self.connection() as connection:
            return await connection.all(into, statement, **params)

    async def one(self, into: Callable[..., T], statement: Statement, **params: Any) -> T | None:
        """`Connection.one` on any connection."""
        async with self.connection() as connection:
            return await connection.one(into, statement, **params)

    async def tuples(self, statement: Statement, **params: Any) -> list[tuple[Any, ...]]:
        """`Connection.tuples` on any connection."""
        async with self.connection() as connection:
            return await connection.tuples(statement, **params)

    async def run(self, statement: Statement, **params: Any) -> int:
        """`Connection.run` on any connection."""
        async with self.connection() as connection:
            return await connection.run(statement, **params)


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def connect_options() -> dict[str, Any]:
    """Options of every connection: short waits, a dead peer noticed within seconds, statements prepared at once."""
    return {
        "autocommit": True,
        "prepare_threshold": 1,
        "connect_timeout": 2,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 5000,
        "application_name": "restante",
    }


class translated:
    """Turns what psycopg raises when PostgreSQL is away into `DatabaseUnavailable`. Mistakes in statements stay."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        match error:
            case psycopg.Error() if error.sqlstate == "RS001":
                raise ProjectionBehind(str(error)) from error
            case psycopg.Error() if error.sqlstate == MOVED:
                raise ProjectionMoved(str(error)) from error
            case psycopg.errors.InsufficientPrivilege():
                raise NotGranted(f"{error}: run `restante grants` as a superuser") from error
            case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedFunction() | psycopg.errors.InvalidSchemaName():
                raise NotMigrated(f"{error}: run `restante migrate`") from error
            case psycopg.OperationalError() | psycopg.InterfaceError() | PoolTimeout():
                raise DatabaseUnavailable(f"PostgreSQL does not answer: {error}") from error


async def configure(raw: Line) -> None:
    """What every connection needs before the first statement."""
    columns.register(raw)
    await raw.execute(SETTINGS)


@asynccontextmanager
async def _steady(raw: Line) -> AsyncIterator[None]:
    """Transactions see one state, and change nothing."""
    await raw.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
    await raw.set_read_only(True)
    try:
        yield
    finally:
        if raw.info.transaction_status is TransactionStatus.IDLE:
            await raw.set_isolation_level(None)
            await raw.set_read_only(None)
        else:
            await raw.close()  # cut or cancelled in the middle: the pool makes another


async def _check(connection: Line) -> None:
    """Ask the socket, not the server: an idle connection has nothing to read unless the server ended it. A round trip for
    each statement would cost as much as the statement."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await AsyncConnectionPool.check_connection(connection)


def _cut(connection: Line) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=socket.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
