"""Registrations: an endpoint that is in etcd as long as its process wants it there.

`registration` is what to register, `registered` its handle and block, `publisher` how one stands and what is said
of it. `registrations` is all of one coordinator; `keeper` puts them back after whatever has happened, under
sessions in common (`shared`), `writing` writes one key, or many that are new, `bulk` asks about many and writes
them, `parting` takes them out at the end. The decisions are in `rules`. The endpoint itself, its key and its
bytes, is `tideover.discovery.endpoint`. Following endpoints is not done here.
"""
