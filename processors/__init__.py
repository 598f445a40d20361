"""Deciding: is the recipient there, and what follows from it.

A Faust worker reads the lifecycle log and appends, for each stored message, one decision: `PendingSync` where nobody is
there, `DeliveryAttempted` with an order to the gateway where somebody is. `decisions` is the policy (pure), `presence` the
sessions it looks at (pure), `desk` both over a run of records, `ledger` the offsets (pure), `transport` and `app` what Faust
may do, `worker` the role. Faust is imported in `transport`, `app` and `worker` only; docs/decisions/0004 says why.
"""
