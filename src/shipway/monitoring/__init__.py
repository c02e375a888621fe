"""Computations over many logged predictions, in processes of their own, with bounded memory."""
