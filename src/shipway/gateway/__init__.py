"""The way of a request: authenticate, admit, decode, validate, route, infer, encode, record."""
