"""`shipway demo`: the main job in under ninety seconds, on real data, with every claim checked."""
