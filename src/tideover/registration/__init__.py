"""Registrations: endpoints kept in etcd for as long as their process wants them there.

`registration` is what to register, `registered` its handle and block, `publisher` its desired state, its present
state and its reports. `registrations` has all of one coordinator; `keeper` restores them after losses, under
shared sessions (`shared`), which `sessions` opens and closes; `writing` writes one key, or many new ones, `bulk`
checks and writes many, `parting` deletes them at the end. The decisions are in `rules`. The endpoint itself, its
key and its bytes, is `tideover.discovery.endpoint`. Following endpoints is not done here.
"""
