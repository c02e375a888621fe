"""Shipped with the package: factories and contract suites."""
