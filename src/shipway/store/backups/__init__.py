"""Backups: one sealed tar archive of the database's rows, the bundles they name, and the keys."""
