"""Decisions, as pure functions of (state, event, now) to the next state and what to do about it.

Nothing in this folder awaits, reads a clock, draws a random number or imports anything outside the vocabulary:
time and chance come in as arguments. That is what lets hypothesis walk through hours of outage in a millisecond.
"""
