"""Alerts: rules on measures, the life of an alert, who is told, and what is done."""
