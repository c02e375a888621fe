"""Shipway: a trained model becomes a live, versioned endpoint."""
