"""Locks: from `tide.lock(...)` to the key in etcd, and what stands in for it in an outage.

`lock` is one body, `held` what the body gets, `locks` all locks of one coordinator, `context` what these share.
`cohort` is the tasks of this process that want one name, `turns` their order, `contender` their way to the front,
`queue_key` and `etcd_queue` their place among all processes, `lines` what an operator sees of these. `host_locks`
and `host_queue` are the locks of this machine; `ledger`, `ledger_file`, `hold_document` and `journal` record
holds; `recovery` follows LOCAL holds after an outage; `reentrancy` finds tasks that would wait for themselves; the
decisions are in `rules`. Leases are `sessions`' business.
"""
