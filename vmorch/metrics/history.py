"""What is remembered of measures: each sample makes them, this is where everybody reads them.

All of it is in memory and bounded: an hour of means for each instance and service and the host, and
the last ten minutes of each service tick by tick, from which it is scaled. It begins anew with the
daemon. Not for several threads: the daemon's loop writes and reads.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from vmorch.metrics.flow import Flows, flows
from vmorch.metrics.rates import (
    guest_measure,
    guest_rise,
    passed,
    service_measure,
    spent,
    together,
    with_flow,
    with_requests,
)
from vmorch.metrics.ring import Ring
from vmorch.metrics.subject import Sample, ServiceKey, Subject
from vmorch.model.counters import GuestCounters, TrafficReport
from vmorch.model.use import HostUse, InstanceUse, ServiceUse, Totals

WINDOW_SECONDS = 600.0


@dataclass(slots=True)
class Track:
    """One instance. `counted` is what it had when it last was seen, at the monotonic time
    `counted_at`; `grown` is the part of its totals, but for requests, that the last look added."""

    subject: Subject
    latest: InstanceUse
    counted: GuestCounters | None = None
    counted_at: float = -math.inf
    grown: Totals = field(default_factory=Totals)
    totals: Totals = field(default_factory=Totals)
    ring: Ring[InstanceUse] = field(default_factory=lambda: Ring(InstanceUse))


@dataclass(slots=True)
class ServiceTrack:
    """One service. `desired` is how many instances it should have; `totals` outlive them."""

    latest: ServiceUse
    desired: int = 0
    totals: Totals = field(default_factory=Totals)
    ring: Ring[ServiceUse] = field(default_factory=lambda: Ring(ServiceUse))
    recent: deque[ServiceUse] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class _Flowed:
    """What went through the proxy since it last told, `seconds` ago (None: there is no rate of
    them). `counts`: it has told before."""

    flows: Flows
    seconds: float | None = None
    counts: bool = False


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
        self._guests_at = -math.inf
        self._traffic_at = -math.inf
        self._traffic: TrafficReport | None = None

    def window(self, environment: str, service: str, seconds: float) -> list[ServiceUse]:
        """The service's last ticks, oldest first, as far as WINDOW_SECONDS back. Empty: nothing is
        known. For whoever decides on its instances."""
        track = self.services.get((environment, service))
        if track is None:
            return []
        return [m for m in track.recent if m.at > track.latest.at - seconds]

    def take(self, sample: Sample) -> None:
        """Make measures of a sample, and forget who is gone."""
        flowed = self._flowed(sample)
        self.instances = {s.uuid: self._instance(s, sample, flowed) for s in sample.subjects}
        self._take_services(sample, flowed)
        self._remember(sample)

    def _flowed(self, sample: Sample) -> _Flowed:
        """What was counted before the daemon first looked is in no sum."""
        if sample.traffic is None:
            return _Flowed(Flows())
        before = self._traffic or TrafficReport()
        return _Flowed(
            flows(before, sample.traffic),
            seconds=passed(self._traffic_at, sample.traffic_at),
            counts=self._traffic is not None,
        )

    def _instance(self, subject: Subject, sample: Sample, flowed: _Flowed) -> Track:
        track = self.instances.get(subject.uuid) or Track(subject, InstanceUse(at=sample.at))
        track.subject = subject
        track.latest, track.grown = self._measured(track, sample)
        track.totals = together(track.totals, track.grown)
        flow = flowed.flows.instances.get((subject.environment, subject.name))
        if flow is not None:
            track.latest = with_flow(track.latest, flow, flowed.seconds)
            if flowed.counts:
                track.totals = with_requests(track.totals, flow)
        track.ring.add(track.latest)
        return track

    def _measured(self, track: Track, sample: Sample) -> tuple[InstanceUse, Totals]:
        """How it is, and what it has used since it was last seen, however long ago that was."""
        subject, at = track.subject, sample.guests_at
        now = sample.guests.get(subject.uuid) if sample.guests is not None else None
        if now is None:
            return InstanceUse(at=sample.at), Totals()
        rise, seconds = guest_rise(track.counted, now), passed(track.counted_at, at)
        measure = guest_measure(subject, now, rise, at=sample.at, seconds=seconds)
        held = measure.rss_bytes if measure.pss_bytes is None else measure.pss_bytes
        grown = spent(subject, rise, held, self._held_seconds(track, now, at))
        track.counted, track.counted_at = now, at
        return measure, grown

    def _held_seconds(self, track: Track, now: GuestCounters, at: float) -> float:
        """A process that was there the last time has been since; another one began after that."""
        if track.counted is not None and track.counted.life == now.life:
            return at - track.counted_at
        return passed(self._guests_at, at) or 0.0

    def _take_services(self, sample: Sample, flowed: _Flowed) -> None:
        rows: dict[ServiceKey, list[Track]] = {key: [] for key in sample.services}
        for track in self.instances.values():
            rows.setdefault(track.subject.service_key, []).append(track)
        services = {}
        for key, tracks in rows.items():
            measures = [(track.subject, track.latest) for track in tracks]
            flow = flowed.flows.services.get(key)
            measure = service_measure(measures, flow, at=sample.at, seconds=flowed.seconds)
            service = self._service_tracked(key, measure)
            service.desired = sample.services.get(key, 0)
            for track in tracks:
                service.totals = together(service.totals, track.grown)
            if flow is not None and flowed.counts:
                service.totals = with_requests(service.totals, flow)
            services[key] = service
        self.services = services

    def _service_tracked(self, key: ServiceKey, measure: ServiceUse) -> ServiceTrack:
        service = self.services.get(key) or ServiceTrack(measure)
        service.latest = measure
        service.recent.append(measure)
        # Also after a clock was set back: what is not within the window goes.
        while abs(measure.at - service.recent[0].at) > WINDOW_SECONDS:
            service.recent.popleft()
        service.ring.add(measure)
        return service

    def _remember(self, sample: Sample) -> None:
        self.ticks += 1
        self.looked_at = sample.at
        for source in sample.failed:
            self.failures[source] = self.failures.get(source, 0) + 1
        if sample.guests is not None:
            self._guests_at = sample.guests_at
        if sample.traffic is not None:
            self._traffic_at, self._traffic = sample.traffic_at, sample.traffic
        if sample.host is not None:
            self.host = sample.host
            self.host_ring.add(sample.host)
