"""The edge: HTTP calls of the contract, one module a resource, and the stream.

A request runs through one path: `app` (route table) -> `resource` (request id, authorisation, problems, metrics) -> a
handler, which takes a `Call` and returns an `Answer`. Handlers raise `Problem`; the table in `problems` is the only place
that knows statuses. What validates a body (`models`) also writes the OpenAPI document (`openapi`).

A WebSocket runs through another: `stream` (who may connect) -> `gateway` (every socket of the process, its pushes, lease and
clocks) -> `conversation` (one socket; what it does besides reading are `errands`: `catching_up`, `acknowledging`, `telling`,
`deadline`). The rules are pure: `session` (what a socket has and lacks), `window`, `acks`. `endings` brings the last facts
of a session into the log, `ends` lists why one ends, `net` finds what nobody pushed. What a gateway stands on is in `ports`.

Nothing here keeps state that must survive: accounts are in PostgreSQL, messages in the log, both given through `Parts`.
"""
