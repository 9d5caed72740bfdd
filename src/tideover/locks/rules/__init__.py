"""Decisions on locks, pure: `handover` of a key inside the process, `recovery` after an outage, `overlaps` of
holds.
"""
