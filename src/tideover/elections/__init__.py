"""Elections: one leader at a time, by a record in etcd that is renewed by compare-and-swap.

`elections` has all elections of one coordinator, `candidacy` one candidate and `term` its term; `leadership` is
the body that runs while leading, `election` the handle for the rest, `jobs` runs functions while leading.
`record`, `record_calls`, `record_content`, `record_document` and `claim` are the record; `observer`, `leader_view`
and `admin` show it to others; `stall_watchdog` notices a blocked event loop. Confirmation without etcd is in
`peers`; the decisions are in `rules`. There is no lease here.
"""
