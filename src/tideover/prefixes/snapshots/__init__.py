"""Snapshots: what of a followed prefix is kept on disk, its format, and its files.

`snapshot` is the content as data, `snapshot_format` its bytes, `sealing` what is encrypted of them,
`snapshot_names` the name of its file; `snapshot_file` writes and reads that file, `snapshot_reading`
understands whatever may lie there, `durable_files` replaces files so that a crash leaves the old or the new
one. Functions on files may block: callers run them in a worker thread. When to write is
`prefixes.snapshotter`'s decision.
"""
