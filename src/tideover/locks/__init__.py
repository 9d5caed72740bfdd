"""Locks: from `tide.lock(...)` to the key in etcd, and what replaces it in an outage.

`lock` is one body and what the body gets, `locks` all locks of one coordinator, `context` what these share, and
`grant` what a lock is worth now. `cohort` is the tasks of this process that want one name, and their order;
`queue_key` is our key in etcd's queue and its way to the front, `queue` that queue, `warm_places` the keys that
are kept for a moment, and `watchdog` what tells holders of a doubt. `host_locks` and `host_queue` are the locks of
this machine. `journal` records holds; `ledger`, `ledger_file` and `hold_document` record those that touch an
outage. `recovery` follows LOCAL holds after an outage; `reentrancy` finds tasks that would wait for themselves;
the decisions are in `rules`.

Calls run down as imports do: nothing here is handed the `Locks` that made it. Leases are `sessions`' business.
"""
