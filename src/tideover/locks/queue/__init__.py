"""The queue of a lock in etcd.

`keys` is how a lock's key is written: its name, its value, and the order of the keys. `etcd_queue` is the queue as
a contender sees it, and `departure` how the last holder left. Which body contends, and with what, is known in
`locks` alone.
"""
