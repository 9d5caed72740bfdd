"""Sessions: keys in etcd that end with their owner, and how long they may be relied upon.

`session` is one session, `pool` all of one coordinator, `block` what `tide.session()` returns. `lease` holds what
is known of the lease, `lease_ids` draws its id, `renewal` renews it; `keys`, `key` and `key_watch` write and watch
keys under it, `scopes` cancels bodies at the deadline; the decisions are in `rules`. What a key is for (a lock, an
endpoint) is not known here.
"""
