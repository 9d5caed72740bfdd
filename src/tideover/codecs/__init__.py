"""From the bytes in etcd to typed values and back.

A scalar is stored as the text a person would type into `etcdctl put`; everything structured is JSON. Decoders are
strict: a value that is not clearly of the type is refused, so that a typo in etcd keeps the last good value
    instead
of becoming a wrong one. Whether a type can be decoded is known before there is a value. No error shows a value,
because errors are logged and values may be secret.
"""

from tideover.codecs.decoding import Decoder, decode, decoder
from tideover.codecs.encoding import encode
from tideover.codecs.forms import fields_of, is_distinct, name_of, options_of, record_of
from tideover.codecs.libraries import Field, ImportNeeded
from tideover.codecs.refusals import Refusal, asking, blamed
from tideover.codecs.structures import construct

__all__ = [
    "Decoder",
    "Field",
    "ImportNeeded",
    "Refusal",
    "asking",
    "blamed",
    "construct",
    "decode",
    "decoder",
    "encode",
    "fields_of",
    "is_distinct",
    "name_of",
    "options_of",
    "record_of",
]
