"""The operator process: connects cluster, metrics, reconciler and work queue, and leads or waits.

Started by `serin.__main__`. Serves probes and metrics, takes part in the leader election, and starts kopf's watches
when it leads. It ends when its first part ends, so that nothing runs without the Lease.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import kopf
import structlog
from aiohttp import web

from serin.analysis.presets import Series
from serin.cluster.api_server import ApiServer
from serin.cluster.kubernetes_cluster import KubernetesCluster
from serin.cluster.lease import Election, Timing
from serin.errors import SettingsError
from serin.handlers import Wakers, make_kopf_settings, make_registry
from serin.manifests.engine_defaults import EngineDefaults
from serin.metric_sources.collector import Collector
from serin.metric_sources.prometheus import Prometheus
from serin.prompt_reconciler import PromptReconciler
from serin.prompt_users import PromptUsers
from serin.reconciler import Reconciler
from serin.rollout.snapshot import Policy
from serin.routers.gateway_api import GatewayApiRouter
from serin.settings import Settings
from serin.telemetry import Telemetry
from serin.workqueue import WorkQueue

log = structlog.get_logger("serin")

STOP_SECONDS = 10.0
"""Time limit for each task to stop; after it, the process no longer waits for the task."""


class Operator:
    """The parts of one operator process.

    Args:
        settings: of the environment.
        version: of this build, for the log.
    """

    def __init__(self, settings: Settings, version: str) -> None:
        self._settings = settings
        self._version = version
        self._telemetry = Telemetry()
        self._stop = asyncio.Event()
        self._election: Election | None = None
        self._queue: WorkQueue | None = None

    async def run(self) -> int:
        """Wait for the Lease, lead, stop; returns the exit status."""
        self._catch_signals()
        web_runners = await self._serve_web()
        api = await ApiServer.connect(self._settings.request_timeout)
        try:
            return await self._take_part(api)
        finally:
            await api.close()
            for runner in web_runners:
                await runner.cleanup()

    async def _take_part(self, api: ApiServer) -> int:
        s = self._settings
        election = self._election = Election(
            api, s.namespace, s.lease_name, s.identity, timing=Timing.of(s.lease_duration)
        )
        log.info("standby started", version=self._version, identity=s.identity, lease=f"{s.namespace}/{s.lease_name}")
        if await self._first("election", election.acquire()) == "signal":
            return 0
        self._telemetry.leads(leading=True)
        try:
            ended = await self._lead(api, election)
        finally:
            self._telemetry.leads(leading=False)
            await election.release()
        log.info("process stopping", cause=ended)
        return 0 if ended == "signal" else 1

    async def _lead(self, api: ApiServer, election: Election) -> str:
        """Run all tasks until the first one ends and stop the others; returns the name of the first one."""
        s, telemetry = self._settings, self._telemetry
        cluster = KubernetesCluster(api, identity=s.identity, may_write=lambda: election.leading, wrote=telemetry.wrote)
        source = Prometheus(s)
        collector = Collector(source, interval=s.collect_interval, observed=telemetry.read_evidence)
        reconciler = Reconciler(
            cluster=cluster,
            router=GatewayApiRouter(),
            collector=collector,
            telemetry=telemetry,
            clock=lambda: datetime.now(UTC),
            defaults=EngineDefaults(
                image=s.default_image,
                model_server_image=s.model_server_image or None,
                model_server_pull_policy=s.model_server_pull_policy,
            ),
            policy=Policy(
                settle_seconds=s.settle_seconds,
                slice_seconds=s.scrape_interval,
                lag_seconds=s.lag,
                series=Series(
                    model_server=s.model_server_metrics,
                    engine=s.engine_metrics,
                    requests=s.requests_metric,
                    code_label=s.requests_code_label,
                ),
            ),
        )
        queue = self._queue = WorkQueue(
            reconciler.reconcile, workers=s.workers, resync=s.resync_interval, observed=telemetry.timed
        )
        collector.woke = queue.mark
        users = PromptUsers()
        prompts = WorkQueue(
            PromptReconciler(cluster, lambda: datetime.now(UTC), users).reconcile, workers=1, resync=s.resync_interval
        )
        wakers = Wakers(queue.mark, prompts.mark, users)
        stop = asyncio.create_task(self._stop.wait())
        hold = asyncio.create_task(election.hold())
        work = asyncio.create_task(queue.run())
        collect = asyncio.create_task(collector.run())
        prompt_work = asyncio.create_task(prompts.run())
        watch = asyncio.create_task(self._watch(wakers, asyncio.all_tasks()))
        # In the order in which they are stopped: first the tasks that write, last the renewal of the Lease.
        tasks = {
            "work queue": work,
            "prompts": prompt_work,
            "collector": collect,
            "watches": watch,
            "lease": hold,
        }
        try:
            done, _ = await asyncio.wait([stop, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
            return next((name for name, task in {"signal": stop, **tasks}.items() if task in done), "unknown")
        finally:
            stop.cancel()
            for name, task in tasks.items():
                await _end(name, task)
            source.close()

    async def _watch(self, wakers: Wakers, ours: set[asyncio.Task[Any]]) -> None:
        """Run kopf's watches. kopf stops all tasks of the loop when it ends, except those in `ours`."""
        namespaces = self._settings.watch_namespaces
        tasks = await kopf.spawn_tasks(
            registry=make_registry(wakers),
            settings=make_kopf_settings(self._settings),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            identity=None,
        )
        # kopf has replaced the signal handlers; restore ours, or the watches would stop before the workers.
        self._catch_signals()
        await kopf.run_tasks(tasks, ignored=ours | {t for t in [asyncio.current_task()] if t})

    async def _first(self, name: str, work: Coroutine[Any, Any, None]) -> str:
        """Wait for the work or for a signal; returns `name` or "signal"."""
        task, stop = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            await _end(name, task)
            return "signal"
        task.result()
        return "signal" if self._stop.is_set() else name

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _serve_web(self) -> list[web.AppRunner]:
        s = self._settings
        pages = {s.probe_port: {"/healthz": self._healthz, "/readyz": self._readyz}}
        pages.setdefault(s.metrics_port, {})["/metrics"] = self._metrics
        runners = []
        for port, routes in pages.items():
            app = web.Application()
            app.add_routes([web.get(path, handler) for path, handler in routes.items()])
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            try:
                await web.TCPSite(runner, s.bind_address or None, port).start()
            except OSError as error:
                raise SettingsError(
                    f"Port {port} cannot be opened ({error}); set SERIN_PROBE_PORT or SERIN_METRICS_PORT to a free "
                    "port."
                ) from error
            runners.append(runner)
        return runners

    async def _healthz(self, _request: web.Request) -> web.Response:
        """Answers if the event loop runs; a restart of the process fixes nothing else."""
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        """Ready if the API server has answered once; a standby is ready too."""
        if self._election is not None and self._election.reached:
            return web.Response(text="ok\n")
        return web.Response(text="The API server has not answered yet.\n", status=503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = self._telemetry.exposition(len(self._queue) if self._queue is not None else 0)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _end(name: str, task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait up to STOP_SECONDS for it; an error is logged."""
    task.cancel()
    await asyncio.wait([task], timeout=STOP_SECONDS)
    if not task.done():
        log.error("task did not stop", task=name, seconds=STOP_SECONDS)
    elif not task.cancelled() and (error := task.exception()) is not None:
        log.error("task failed", task=name, exc_info=error)
