"""The whole daemon (real planner, reconciler and store) on fakes in virtual time."""
