"""Disks that outlive instances: made, grown and removed as files on the host."""
