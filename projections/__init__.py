"""Read models in PostgreSQL: the fold of the log that answers sync, status and trail.

    log ──► source ──► runner ──► batch ──► apply ──► PostgreSQL ──► reads, progress ──► api

- `database`: the pool, named statements, errors. `migrate`: the schemas, `accounts` (truth) and `projection` (a fold).
  Of that there may be two: `pointer` says which is live, and every statement checks it in its own snapshot.
- `batch` gathers facts into columns, `apply` writes them: set-based statements, each of which may be run twice.
- `steps` moves rows and offsets on in one transaction that fails if another projector has been there (`ReplacedError`);
  `runner` does it for ever, `refold` up to given offsets in a place that nobody reads; `rebuild` makes that the live one.
- `replace` does that with the rows of one partition, `compare` holds the live rows against the log.
- `reads` answers questions; `life` folds a message's rows with `schemas.lifecycle.evolve`: one meaning of the log.
- `places` says where in the log the records about a message are.
- `progress` lets a read wait until the projection has reached the end that the log had when the request came.

The mailbox is two tables. `mailbox` holds what no device of the account has acknowledged, for all its devices at once. The
first acknowledgement takes the row away and leaves a copy in `owed` for each other device that was registered by then; that
device's own acknowledgement takes the copy. So a device's view is two range scans by key, whatever lies behind it and
however many other devices lag, and with one device a message costs one insert and one delete.

Commits are synchronous. An API process remembers how far the projection has come and answers on the strength of it; an
asynchronous commit could be taken back by a crash of PostgreSQL after it was announced. One flush a batch is all it costs.
Still no read relies on that memory alone: every statement checks the offsets that it must see in its own snapshot
(`reached` in SQL), so a restored, emptied or rebuilt projection answers `ProjectionBehind`, never a short page.
"""
