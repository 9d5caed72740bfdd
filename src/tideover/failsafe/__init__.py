"""Leaders that are confirmed by the other candidates when etcd is away: the policy `"peers"`.

`desk` is one process's place to be asked at, `peering` one candidacy's dealings with the others. What is decided
is in `resilience.failsafe`, how it is said in `peers`.
"""
