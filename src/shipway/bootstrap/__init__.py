"""The only package that knows everything: builds the control process from settings."""
