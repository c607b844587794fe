"""The only place that knows HAProxy."""
