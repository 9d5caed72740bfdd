"""Decisions on the cluster, as pure functions: `health`, `breaker`, `diagnosis`, `membership`.

As in every `rules`, nothing here awaits, reads a clock, draws a random number or does I/O: time and chance come
in as arguments. That is what lets hypothesis walk through hours of outage in a millisecond.
"""
