"""How many instances a service should have, from a window of measures and the time. Pure.

Knative's autoscaler for requests in flight, Kubernetes' for rates and shares, the greater wins;
then bounds, schedule, stabilization and steps; and sleep once nothing was asked for long enough.
`docs/autoscaling.md` tells it to users.
"""

from vmorch.planner.autoscale.decision import Decision, desired

__all__ = ["Decision", "desired"]
