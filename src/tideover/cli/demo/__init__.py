"""`tideover demo`: a real cluster, a service under load, and an outage, in half a minute.

`shop` is the service, as a user would write it, and runs in processes of its own (`instance`). `load` sends it
requests and keeps count. `scenario` breaks etcd, and checks the answers meanwhile.
`timeline` and `summary` print. `runner` starts it all and sees to it that nothing is left, whatever ends the run.
"""
