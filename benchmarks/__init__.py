"""What tideover costs, measured side by side with its peers: `python -m benchmarks`, or `nox -s bench`.

One module per row of the table, each with a `ROW`; `harness` times and compares, `report` prints, `peers` is the
one place that imports the libraries compared with, `raw` that of etcd with nothing in between. Peers are imported
when a row runs, so that the rows can be listed and tested without them. Nothing here is part of the package.
"""
