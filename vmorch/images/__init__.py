"""Dockerfile -> layers -> qcow2; bases; the store of layers."""
