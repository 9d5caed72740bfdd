"""Configuration: typed values that stay readable while etcd is away, each with the truth about itself.

`config` is what users call; `values` decodes once per revision and keeps the last good value; `ondemand` holds
what is left when etcd cannot be asked about a key that is not followed; `changes` and `binding` hand changes on.
"""
