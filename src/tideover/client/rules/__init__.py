"""Decisions on repeated calls, pure: `backoff` says when, `retry_budget` says how many.

Errors that may be tried again are told apart in `store.faults`, not here.
"""
