"""Locks: `lock` is one way through the body, `cohort` the line of one name in this process, `held` what the
body has.

`place` is our key in etcd's line, `host` the machine's own locks, `ledger` the memory of outages, and `owner`
keeps all of it for one coordinator. Nothing here knows configuration, elections or the registry.
"""
