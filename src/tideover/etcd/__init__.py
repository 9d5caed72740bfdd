"""etcd over gRPC: the implementation of the port in `store`, and the only folder that imports grpc and protobuf.

`adapter` is the store; `messages` holds etcd's messages and stubs; `channel`, `connection`, `room`, `auth_token`
and `tls` are its connections. `transports` chooses what they go over: `http2`, our own, or `grpc_channel`, which
alone imports grpc, and goes through the proxies that `http_proxy` finds; `rpc_errors` is what either raises.
`requests` translates single calls, `keep_alives` and `keepalive` renew leases; `watch_stream`, `watch_streams` and
`watch_buffer` carry watches; `proxy_detection` finds an etcd grpc-proxy; `forks` lets a process forked beside gRPC
connect, or refuses; `raw_lines` keeps gRPC's own lines off stderr. Messages are loaded on connecting.
Nothing here retries or chooses a member.
"""
