"""Decisions on calls, pure: `backoff` says when to repeat one, `retry_budget` how many.

`namespaces` tells from the name of a key which namespace it is of.

Errors that may be tried again are told apart in `store.faults`, not here.
"""
