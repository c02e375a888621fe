"""The Python SDK: typed HTTP client of the control API and of the gateway."""
