"""HTTP/2 of tideover's own, as much of it as calls to etcd need, in the shape of a grpc.aio channel.

`opening` opens a `channel`, whose `connector` keeps its calls on a `connection`; `dialling` and `addresses` make
one. `call`, `stream_call` and `call_queue` are the calls. A connection is what is received (`connection` itself),
what is sent (`sending`) and whether the server lives (`liveness`). Pure, without I/O: `frames`, `windows`,
`header_blocks` of requests, `reply_headers`, `envelope` for gRPC's messages, and `status`, how calls end in words.

Nothing here knows what etcd is; no proxy of the environment is used; nothing is compressed. RFC 9113 is HTTP/2,
RFC 7541 its headers, `doc/PROTOCOL-HTTP2.md` of the gRPC project what gRPC makes of them. See docs/decisions/0102.
"""
