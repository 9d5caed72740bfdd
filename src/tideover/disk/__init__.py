"""The files: snapshots and whatever else must outlive the process or be seen by its neighbours on the host.

This is the only code of tideover that touches files, and it uses the standard library only (and, in
`folder`, `platformdirs`). Every function here is synchronous and may block on a disk: callers run it in a
worker thread. Nothing here decides what to serve, and nothing here imports etcd.
"""
