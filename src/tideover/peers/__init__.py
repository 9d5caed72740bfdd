"""How processes of one election talk to each other when etcd is away: signed messages, and bounded HTTP for them.

Nothing here knows what the messages are for; that is `failsafe`, and what is decided on them is in
`resilience.failsafe`.
"""
