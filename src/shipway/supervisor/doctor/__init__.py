"""`shipway doctor`: gathers the facts of a server, up or down, for `core.health` to judge. Changes nothing."""
