"""The machinery between the port and the primitives: anyio only, nothing here knows grpc.

`gateway` makes every call to etcd; `lanes` holds whom to ask and whether; `monitor` probes in the background and
owns the health state. Above them, `view` follows a prefix and `keeper` writes it to disk.
"""
