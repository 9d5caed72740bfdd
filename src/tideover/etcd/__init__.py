"""etcd behind a port: the only folder that imports aetcd and grpc.

`store` is the port that everything above is written against; `faults` says what an error means. `adapter`,
`channel` and `watch` implement the port over aetcd's generated stubs and load grpc, so they are imported only
when a coordinator connects.
"""
