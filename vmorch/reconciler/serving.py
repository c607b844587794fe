"""Tells the proxy what it should do, without what cannot be had: one port that another program has,
or one environment that HAProxy refuses, must not cost the others their traffic.

All of it is asked for again in each cycle: whoever stands in the way may let go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from vmorch.errors import ProxyError
from vmorch.model.event import EventKind
from vmorch.proxy.protocol import AddressUnavailable, ProxyConfig
from vmorch.reconciler.parts import Parts
from vmorch.reconciler.routing import Routed, proxy_config

Complaint = tuple[str, str]
"""An environment, or "" for the host, and what is wrong."""


class Serving:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._complaints: set[Complaint] = set()

    async def serve(self, environments: Sequence[Routed]) -> ProxyConfig:
        """What the proxy does now of what these want.

        Raises:
            ProxyError: HAProxy does none of it, or does not answer.
        """
        found: set[Complaint] = set()
        served = await self._applied(environments, found)
        await self._complain(found)
        return served

    def _config(self, environments: Sequence[Routed]) -> ProxyConfig:
        return proxy_config(
            self._parts.store.installation,
            environments,
            publish_address=self._parts.settings.publish_address,
        )

    async def _applied(self, environments: Sequence[Routed], found: set[Complaint]) -> ProxyConfig:
        try:
            return await _as_far_as_possible(self._apply, self._config(environments), found)
        except ProxyError as error:
            if error.retryable:
                raise
            accepted = await self._accepted(environments, found)
            if len(accepted) == len(environments):
                raise
        return await _as_far_as_possible(self._apply, self._config(accepted), found)

    async def _apply(self, config: ProxyConfig) -> None:
        proxy = self._parts.proxy
        if config != ProxyConfig():
            await proxy.apply(config)
        elif await proxy.running():
            await proxy.stop()

    async def _accepted(
        self, environments: Sequence[Routed], found: set[Complaint]
    ) -> Sequence[Routed]:
        """Those that HAProxy accepts beside those before them; all, when it refuses a configuration
        without any, which is no environment's fault."""
        try:
            await self._parts.proxy.check(ProxyConfig())
        except ProxyError:
            return environments
        kept: list[Routed] = []
        for environment in environments:
            try:
                # What has no address to listen on is found out when it is applied.
                config = self._config([*kept, environment])
                await _as_far_as_possible(self._parts.proxy.check, config, set())
            except ProxyError as error:
                if error.retryable:  # a busy host is no environment's fault
                    raise
                found.add((environment.record.name, f"It is not served. {_told(error)}"))
            else:
                kept.append(environment)
        return kept

    async def _complain(self, found: set[Complaint]) -> None:
        """Once for as long as it lasts, not once for each cycle."""
        for environment, text in sorted(found - self._complaints):
            await self._parts.store.add_event(
                EventKind.ACTION_FAILED,
                text,
                now=self._parts.clock.now(),
                environment=environment,
            )
        self._complaints = found


async def _as_far_as_possible(
    act: Callable[[ProxyConfig], Awaitable[None]], config: ProxyConfig, found: set[Complaint]
) -> ProxyConfig:
    """Do it with as much of `config` as has addresses to listen on, which is returned."""
    while True:
        try:
            await act(config)
        except AddressUnavailable as error:
            rest = config.without(error.endpoints)
            if rest == config:
                raise
            found.add(("", _told(error)))
            config = rest
        else:
            return config


def _told(error: ProxyError) -> str:
    return f"{error.message} {error.hint}"
