"""What every run begins with."""

from __future__ import annotations

from tideover.testing.etcd_binary import binary_version, find_etcd


def pytest_report_header() -> str:
    """Say which etcd the tests run on."""
    program = find_etcd()
    return f"etcd {binary_version(program)}: {program}"
