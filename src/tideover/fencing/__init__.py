"""Fencing: `token` is the strictly growing number of one grant, `guard` the condition that ties writes to it.

A guard reaches etcd through `epoch`; a token is pure, and a resource that is not etcd compares it by itself.
Who holds what is not known here.
"""
