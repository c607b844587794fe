"""The only place that knows libvirt."""
