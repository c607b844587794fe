"""How many instances a service should have, from a window of measures and the time. Pure.

Knative's autoscaler for requests in flight, Kubernetes' for rates and shares, the greater wins;
then bounds, schedule, stabilization and steps. `docs/autoscaling.md` tells it to users.
"""

from vmorch.planner.autoscale.decision import Decision, desired
from vmorch.planner.autoscale.hand import at_first, by_hand

__all__ = ["Decision", "at_first", "by_hand", "desired"]
