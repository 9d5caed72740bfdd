"""The decorators: `injection` is `@with_config`, `locking` is `@locked`, `leading` is `@while_leader`.

They translate a signature into calls of the public functions, and `signatures` is what a decorated function shows
of its own; nothing here calls etcd or keeps state between calls.
"""
