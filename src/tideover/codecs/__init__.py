"""From the bytes in etcd to typed values and back.

A scalar is stored as the text a person would type into `etcdctl put`; everything structured is JSON. Decoders are
strict: what cannot be said to be of the type asked for is refused, so that a typo in etcd keeps the last good
value instead of becoming a wrong one. No error shows a value, because errors are logged and values may be secret.
"""

from tideover.codecs.decoding import decode
from tideover.codecs.encoding import encode
from tideover.codecs.structures import construct, fields_of

__all__ = ["construct", "decode", "encode", "fields_of"]
