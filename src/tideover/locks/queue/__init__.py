"""The queue of a lock in etcd: its keys, what they are called and hold, and their order.

`etcd_queue` is the queue as a contender sees it. Which body contends, and with what, is known in `locks` alone.
"""
