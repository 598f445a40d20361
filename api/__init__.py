"""The edge: HTTP calls of the contract, one module a resource.

A request runs through one path: `app` (route table) -> `resource` (request id, authorisation, problems, metrics) -> a
handler, which takes a `Call` and returns an `Answer`. Handlers raise `Problem`; the table in `problems` is the only place
that knows statuses. What validates a body (`models`) also writes the OpenAPI document (`openapi`).

Nothing here keeps state that must survive: accounts are in PostgreSQL, messages in the log, both given through `Parts`.
"""
