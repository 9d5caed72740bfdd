"""Configuration: typed values that stay readable while etcd is away, each with its source and age.

`config` is `tide.config`, on top of `reader`, which never does I/O; `readings` makes its results. `decoded`
decodes once per revision and keeps the last good value; `fetch_cache` keeps values of keys that are not followed;
`changes` and `live` pass changes on; `assembly`, `origins` and `bound` make settings objects; `keys` translates
names. Prefixes are followed in `prefixes`.
"""
