"""Desired state, revisions, instances, leases, events: the daemon's only memory."""
