"""Warm snapshots on the host's disk."""
