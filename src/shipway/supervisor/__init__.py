"""`shipway up` and `shipway down`: control, gateways and replicas of one machine as one server.

The supervisor starts the other processes, starts them again when they die, and ends them. It
imports none of what they need, so that it is there at once.
"""
