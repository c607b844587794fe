"""What is remembered of measures: each sample makes them, this is where everybody reads them.

All of it is in memory and bounded: an hour of means for each instance and service and the host, and
the last ten minutes of each service tick by tick, from which it is scaled. It begins anew with the
daemon. Not for several threads: the daemon's loop writes and reads.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vmorch.metrics.flow import Flows, flows
from vmorch.metrics.rates import (
    guest_measure,
    passed,
    service_measure,
    spent,
    with_flow,
    with_requests,
)
from vmorch.metrics.ring import Ring
from vmorch.metrics.subject import Sample, ServiceKey, Subject
from vmorch.model.autoscale import LONGEST_WINDOW_SECONDS
from vmorch.model.counters import GuestCounters, MemoryWeight, TrafficReport
from vmorch.model.use import HostUse, InstanceUse, ServiceUse, Totals

WEIGH_SECONDS = 60.0
"""Within this each guest's memory is weighed once, as far as ticks follow each other."""


@dataclass(slots=True)
class Track:
    """One instance. `ready_since` is the first of the looks in a row that saw it ready. `weight` is
    that of the process `weighed_life`; `asked_at` is when its memory was last to be weighed,
    whatever came of it."""

    subject: Subject
    latest: InstanceUse
    totals: Totals = field(default_factory=Totals)
    ring: Ring[InstanceUse] = field(default_factory=lambda: Ring(InstanceUse))
    ready_since: float = math.inf
    weight: MemoryWeight | None = None
    weighed_life: int = 0
    asked_at: float = -math.inf


@dataclass(slots=True)
class ServiceTrack:
    """One service. `desired` is how many instances it should have; `totals` outlive them."""

    latest: ServiceUse
    desired: int = 0
    totals: Totals = field(default_factory=Totals)
    ring: Ring[ServiceUse] = field(default_factory=lambda: Ring(ServiceUse))
    recent: deque[ServiceUse] = field(default_factory=deque)


class History:
    """`instances` by uuid, `services` by (environment, service), as they were in the last look.
    `ticks` and `failures` (by source) count looks."""

    def __init__(self) -> None:
        self.instances: dict[str, Track] = {}
        self.services: dict[ServiceKey, ServiceTrack] = {}
        self.host: HostUse | None = None
        self.host_ring: Ring[HostUse] = Ring(HostUse)
        self.looked_at: float | None = None
        self.ticks = 0
        self.failures: dict[str, int] = {}
        self._guests: tuple[float, Mapping[str, GuestCounters]] = (-math.inf, {})
        self._traffic: tuple[float, TrafficReport] = (-math.inf, TrafficReport())

    def window(self, environment: str, service: str, seconds: float) -> list[ServiceUse]:
        """The service's last ticks, oldest first, as far as LONGEST_WINDOW_SECONDS back. Empty:
        nothing is known. For whoever decides on its instances."""
        track = self.services.get((environment, service))
        if track is None:
            return []
        return [m for m in track.recent if m.at > track.latest.at - seconds]

    def next_to_weigh(self, now: float, tick_seconds: float) -> list[str]:
        """Whose memory (uuids) is to be weighed in the look that follows: in turn."""
        count = math.ceil(len(self.instances) * tick_seconds / WEIGH_SECONDS)
        chosen = heapq.nsmallest(count, self.instances.values(), key=lambda track: track.asked_at)
        for track in chosen:
            track.asked_at = now
        return [track.subject.uuid for track in chosen]

    def take(self, sample: Sample) -> None:
        """Make measures of a sample, and forget who is gone."""
        flowed, traffic_seconds = self._flowed(sample)
        since = passed(self.looked_at, sample.at) if self.looked_at is not None else None
        instances = {}
        for subject in sample.subjects:
            measure = self._measured(subject, sample)
            flow = flowed.instances.get((subject.environment, subject.name))
            if flow is not None:
                measure = with_flow(measure, flow, traffic_seconds)
            track = self._tracked(subject, measure, since)
            if flow is not None and traffic_seconds is not None:
                track.totals = with_requests(track.totals, flow)
            instances[subject.uuid] = track
        self.instances = instances
        self._take_services(sample, flowed, traffic_seconds, since)
        self._remember(sample)

    def _flowed(self, sample: Sample) -> tuple[Flows, float | None]:
        if sample.traffic is None:
            return Flows(), None
        at, before = self._traffic
        return flows(before, sample.traffic), passed(at, sample.at)

    def _measured(self, subject: Subject, sample: Sample) -> InstanceUse:
        now = sample.guests.get(subject.uuid) if sample.guests is not None else None
        if now is None:
            return InstanceUse(at=sample.at)
        at, before = self._guests
        return guest_measure(
            subject,
            before.get(subject.uuid),
            now,
            self._weight(subject.uuid, now),
            at=sample.at,
            seconds=passed(at, sample.at),
        )

    def _weight(self, uuid: str, now: GuestCounters) -> MemoryWeight | None:
        """The last one of this process."""
        track = self.instances.get(uuid)
        if track is None:
            return now.weight
        if now.weight is not None:
            track.weight, track.weighed_life = now.weight, now.life
        return track.weight if track.weighed_life == now.life else None

    def _tracked(self, subject: Subject, measure: InstanceUse, since: float | None) -> Track:
        track = self.instances.get(subject.uuid)
        if track is None:
            track = Track(subject, measure)
        track.subject, track.latest = subject, measure
        track.ready_since = min(track.ready_since, measure.at) if subject.ready else math.inf
        if since is not None:
            track.totals = spent(track.totals, subject, measure, since)
        track.ring.add(measure)
        return track

    def _take_services(
        self, sample: Sample, flowed: Flows, seconds: float | None, since: float | None
    ) -> None:
        rows: dict[ServiceKey, list[Track]] = {key: [] for key in sample.services}
        for track in self.instances.values():
            rows.setdefault(track.subject.service_key, []).append(track)
        services = {}
        for key, tracks in rows.items():
            measures = [(track.subject, self._since_ready(track)) for track in tracks]
            flow = flowed.services.get(key)
            measure = service_measure(measures, flow, at=sample.at, seconds=seconds)
            service = self._service_tracked(key, measure)
            service.desired = sample.services.get(key, 0)
            if since is not None:
                for track in tracks:
                    service.totals = spent(service.totals, track.subject, track.latest, since)
            if flow is not None and seconds is not None:
                service.totals = with_requests(service.totals, flow)
            services[key] = service
        self.services = services

    def _since_ready(self, track: Track) -> InstanceUse:
        """Its measure, without the share of a cap that it did not have for all of that time."""
        counted_from, _ = self._guests
        if track.ready_since <= counted_from:
            return track.latest
        return replace(track.latest, cpu_share=None)

    def _service_tracked(self, key: ServiceKey, measure: ServiceUse) -> ServiceTrack:
        service = self.services.get(key) or ServiceTrack(measure)
        service.latest = measure
        # After a clock was set back: what is later than now is no past.
        while service.recent and service.recent[-1].at >= measure.at:
            service.recent.pop()
        service.recent.append(measure)
        while measure.at - service.recent[0].at > LONGEST_WINDOW_SECONDS:
            service.recent.popleft()
        service.ring.add(measure)
        return service

    def _remember(self, sample: Sample) -> None:
        self.ticks += 1
        self.looked_at = sample.at
        for source in sample.failed:
            self.failures[source] = self.failures.get(source, 0) + 1
        if sample.guests is not None:
            self._guests = sample.at, sample.guests
        if sample.traffic is not None:
            self._traffic = sample.at, sample.traffic
        if sample.host is not None:
            self.host = sample.host
            self.host_ring.add(sample.host)
