"""Followed prefixes: content that is read once, kept up to date by a watch, and kept on disk.

`view` is the content and its age, `follower` the task that keeps it in sync, `doubts` what looks at all their
watches, `snapshotter` its content on disk, `snapshot_writer` the task that writes all of them, `followed` all
prefixes of one coordinator; `snapshots` are the bytes and their files; `bootstrap` is what an operator hands in
instead. The decisions are in `rules`. Functions on files may block: callers run them in a worker thread.
Values are bytes here: `config` decodes settings, `discovery` endpoints.
"""
