"""What computes over many logged predictions: in a process of its own, in bounded memory."""
