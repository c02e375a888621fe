"""Bundles in a local directory or an object store."""
