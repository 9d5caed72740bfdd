"""Decisions about requests: pure functions of what is required and of what is known now."""
