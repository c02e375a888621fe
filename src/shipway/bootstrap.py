"""The only module that knows everything: builds each process from settings."""
