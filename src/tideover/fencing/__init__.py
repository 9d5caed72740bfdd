"""Fencing: `token` is the strictly growing number of one grant, `guard` the condition that ties writes to it.

A guard reaches etcd through `epoch`; a token is pure, and a resource that is not etcd compares tokens by itself.
Locks and terms are not known here.
"""
