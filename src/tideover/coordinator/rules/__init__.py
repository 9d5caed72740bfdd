"""What a status report says in words, decided by its facts: pure functions, each from a report to statements.

`situation` is what other rules ask of a report; `headline` says what is the matter with etcd, `consequences` what
follows from it, `working` what works and what does not, `rows` how each primitive stands, `notes` what else is to
be known, and `hour` what has happened.
"""
