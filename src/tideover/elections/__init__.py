"""Leader election on records: terms and their bodies, handles, and who leads now.

The protocol is not here: it is decided in `resilience.record` and carried out by `core.record`.
"""
