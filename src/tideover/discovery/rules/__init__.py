"""Decisions on a list of endpoints, pure: `removals` says who leaves, `ejection` who is skipped for a while,
`rotation` whose turn it is.
"""
