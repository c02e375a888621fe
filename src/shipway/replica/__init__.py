"""One model process: load, batch, run."""
