"""Decisions on the cluster, as pure functions: `diagnosis`, `membership`, `questions` and others.

As in every `rules`, nothing here awaits, reads a clock, draws a random number or does I/O: time and chance come
in as arguments. That is what lets hypothesis walk through hours of outage in a millisecond.
"""
