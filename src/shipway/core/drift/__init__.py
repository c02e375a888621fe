"""Drift: how far two samples of the same columns lie apart, and whether that is worth a word."""
