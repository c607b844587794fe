"""Frozen values and their validation. No I/O, no clock, no randomness."""
