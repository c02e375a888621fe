"""One module per artifact format, behind the port in `port`."""
