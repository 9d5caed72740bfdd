"""Calls to etcd: one call is admitted, sent, classified, retried and recorded here.

`client` is the handle that all above are built from. `gateway` is the way of ordinary calls, through the breaker;
`direct` is the way past the breaker, for what must not wait for a verdict on the cluster. `lifecycle` refuses
calls to a coordinator that is not open, and `parts` says what all parts of one have in common. `read_batching`
joins concurrent reads of single keys, `pages` reads all keys under a prefix page by page, and `namespaces` looks
for what is in etcd under other names. Which members there are and how they are is `cluster`'s; what an answer
means to its caller is not known here.
"""
