"""What `tideover assets export` gives out and a program makes: `python -m tools.assets` writes it.

`rows` says what the dashboard shows, `panels` how Grafana writes a panel, `dashboard` puts both together. `made`
has each file by its path, among them the rules for Kubernetes: those for Prometheus in an envelope. A test says
that the files in `src/tideover/assets` are what is made here. Nothing here is part of the package.
"""
