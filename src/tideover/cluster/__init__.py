"""What this process knows of etcd's members, and the tasks that keep that true.

`state` is the shared knowledge; `breakers` let calls through or refuse them. `members`, `member_sync` and `dns`
settle whom to ask; `monitor`, `prober`, `answers` and `alarms` find out how they are; `reconnector` and
`in_flight` follow their connections and reads; `health` is what users see; decisions are in `rules`. Calls for
users are made in `client`; no key, prefix, lease or lock is known here.
"""
