"""The circuit breakers: what refuses calls without a packet in a declared outage.

`breaker` is the rule, for one lane (linearizable or serializable); `state_machine` is the rule for both, which
together are the health. `breakers` keeps them for all callers. Who probes is the monitor, a floor above; nothing
here asks etcd.
"""
