"""What computes over many rows of the prediction log, each in a process of its own with bounded memory."""
