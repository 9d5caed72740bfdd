"""Service discovery: `endpoint` is the noun that both halves share, as it lies in etcd.

One half publishes an endpoint and sees to it that it comes back after whatever has happened; the other follows a
service's endpoints. Neither imports the other, and nothing here knows configuration, locks or elections.
"""
