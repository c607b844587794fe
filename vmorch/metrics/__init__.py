"""From counters to measures, the last hour of them, and their form for Prometheus.

Nothing here asks anybody: `vmorch.reconciler.measuring` looks, and hands in what it saw.
"""
