"""Iterating until constants are good: what is measured, how a phase ends, which step follows. Pure functions all."""
