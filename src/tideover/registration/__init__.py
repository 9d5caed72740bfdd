"""Registrations: an endpoint that is in etcd as long as its process wants it there.

`registration` is what to register, `registered` its handle and block, `publisher` the task that puts it back
after whatever has happened, `registrations` all of one coordinator; the decisions are in `rules`. The endpoint
itself, its key and its bytes, is `tideover.discovery.endpoint`. Following endpoints is not done here.
"""
