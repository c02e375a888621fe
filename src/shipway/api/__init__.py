"""FastAPI routers over control."""
