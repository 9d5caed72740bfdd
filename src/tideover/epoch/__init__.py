"""Which history of etcd this is: a restore, a new cluster or a wrong cluster is noticed here and nowhere else.

`tracker` knows the epoch of one coordinator, in the nouns of `history`; `checked_store` lets no answer of another
history pass; `marker` is the epoch's key in etcd, and `marker_search` reads it at any member; `foreign_members`
tells members of another cluster; the decisions are in `rules`. What a reset means for prefixes, sessions and locks
is decided by those.
"""
