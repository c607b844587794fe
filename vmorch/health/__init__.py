"""Probes: asking instances whether they are ready."""
