"""Decisions about requests and probes: pure functions of what is required and of what is known now."""
