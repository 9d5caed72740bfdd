"""Which history of etcd this is: a restore, a new cluster or a wrong cluster is noticed here and nowhere else.

`tracker` knows the epoch of one coordinator; `checked_store` lets no answer of another history pass; `marker`
is the epoch's key in etcd; `foreign_members` tells members of another cluster; the decisions are in `rules`.
What a reset means for prefixes, sessions and locks is decided by those.
"""
