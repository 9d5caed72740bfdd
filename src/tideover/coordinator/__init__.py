"""One service's coordination, put together: what `connect` returns.

`coordinator` is its public face, and `dir()` of it is the public API. `parts` builds what it is made of, in the
order in which one part needs another; `lifecycle` opens, tells, closes and poisons all of them, and `starting`
waits for what is known at the start. `status_report`, `survey`, `catalog` and `instruments` show what is inside.
What a part does is known in the part's own folder.
"""
