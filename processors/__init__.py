"""Deciding: is the recipient there, and what follows from it.

A Faust worker reads the lifecycle log and appends, for each stored message, one decision: `PendingSync` where nobody is
there, `DeliveryAttempted` with an order to the gateway where somebody is; for each acknowledged one a receipt to its sender;
and the end of the sessions of gateways that are lost. `decisions` is the policy, `presence` the sessions it looks at,
`receipts` what senders are told, `leases` which gateways live, `ledger` the offsets (all pure); `desk` is the policy over a
run of records, `gateways` the watch over leases, `transport` and `app` what Faust may do, `worker` the role. Faust is
imported in `transport`, `app` and `worker` only; docs/decisions/0004 says why.

`audit/` judges what was decided and written, record by record, and `other_policies` says what would have been decided
otherwise: both ask the policy itself, and both are pure.
"""
