"""A trained model becomes a bundle."""
