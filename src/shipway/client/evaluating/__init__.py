"""How well a version does on held-out data: its answers, judged with intervals and a paired test."""
