"""Confining a process by what the kernel offers: standard library only, run before any model code."""
