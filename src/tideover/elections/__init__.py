"""Elections: one leader at a time, by a record in etcd that is renewed by compare-and-swap.

`elections` has all elections of one coordinator, `term` one candidacy and one time of leading, `leadership` the
body that runs while leading; `record`, `record_calls` and `record_document` are the record; `observer` and
`admin` show it to others; `stall_watchdog` notices a blocked event loop. Confirmation without etcd is in
`peers`; the decisions are in `rules`. There is no lease here.
"""
