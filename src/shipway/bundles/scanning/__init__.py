"""Reading what strangers hand in, without running any of it.

Everything here runs in a process of its own (`process`), with bounds on its time and memory, and imports
nothing but the standard library, msgspec and `core`.
"""
