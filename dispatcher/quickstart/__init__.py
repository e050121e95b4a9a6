"""The Python part of ./quickstart: one machine, everything on it, under one process manager."""
