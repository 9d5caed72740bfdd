"""Brings `tideover_pytest`, where an older installation still names this module to pytest."""

pytest_plugins = ["tideover_pytest"]
