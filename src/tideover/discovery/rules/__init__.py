"""Decisions on a list of endpoints, pure: `removals` drops endpoints that etcd no longer has, `ejection` skips
failing ones for a while, `rotation` picks the next one.
"""
