"""How candidates confirm a leader while etcd is away: the policy `"peers"`.

`listener` receives the messages for the candidates of one process, `peering` exchanges those of one candidacy,
`messages` has the signed messages, and `http` the bounded HTTP/1.1 that carries them. The rules on answers are in
`tideover.elections.rules.failsafe`; nothing here reads or writes etcd.
"""
