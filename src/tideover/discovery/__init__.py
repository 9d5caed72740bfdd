"""Discovery: the endpoints of a service, followed, and one picked for each call.

`discovery` has all services of one coordinator, `service` one of them, `picker` its rotation, `service_view` is
the users' handle, `endpoint` the noun, its key and its bytes; the decisions are in `rules`. Nothing here
registers, and nothing here knows configuration, locks or elections.
"""
