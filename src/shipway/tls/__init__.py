"""TLS between callers and servers: files, contexts, peers' identities, and a local CA."""
