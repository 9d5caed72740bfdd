"""Transports for `http://name.service/path`, without the library that they are for.

`transport` is what the client of a library calls, `call` one request and its attempts, `bodies` what is read while
others look on. The decisions are in `contrib.rules`. `library` holds the names of a library that looks like httpx;
nothing here imports one.
"""
