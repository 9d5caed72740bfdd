"""How candidates confirm a leader while etcd is away: the policy `"peers"`.

`listener` is where the candidates of one process are asked, `peering` one candidacy's questions to the others,
`messages` what is said, signed, and `http` the bounded HTTP/1.1 that carries it. What an answer means is
decided in `tideover.elections.rules.failsafe`; nothing here reads or writes etcd.
"""
