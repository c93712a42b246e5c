"""Connections to a real Prometheus that fails, delays, demands credentials, or refuses a query."""

import ssl
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import certifi
import pytest

from sandbox.control_plane.api_tier import Handle
from serin.analysis.counts import Tally
from serin.metric_sources.http_session import MAX_BYTES
from serin.metric_sources.port import Server
from serin.metric_sources.prometheus import Prometheus
from tests.integration.counting.proxy import Behaviour, before
from tests.integration.counting.rollouts import two, watch
from tests.integration.scraped import LONG, Pods, Rollout, settings


async def test_failing_prometheus_is_reported_and_later_caught_up(pods: Pods, tier: Handle) -> None:
    assert tier.prometheus_url
    behave = Behaviour()
    one, _ = await two(pods)
    with before(tier.prometheus_url, behave) as url:
        source, hasty = Prometheus(settings(url)), Prometheus(settings(url, prometheus_timeout=1.0))
        rollout = Rollout(source, watch())
        (stable, _), _ = rollout.watch.engine_of
        one.count(stable, by=10)
        await one.scraped()
        await rollout.past()
        sentences = []
        for status, body, missing in (
            (500, b"boom", 0),
            (503, b"starting", 0),
            (422, b"too many samples", 0),
            (403, b"who?", 0),
            (302, b"", 0),
            (200, b"<html>", 0),
            (200, b'{"data": {"result": 7}}', 0),
            (200, b'{"data": {"result": [{}]}}', 0),
            (200, None, 1000),
        ):
            behave.status, behave.body, behave.missing = status, body, missing
            rollout.source = hasty if missing else source
            one.count(stable)
            await rollout.tick()
            sentences.append(str(rollout.last.error))
        start = time.monotonic()
        behave.status, behave.body, behave.missing = 200, None, 0
        behave.done.set()
        rollout.source = source
        assert not rollout.of(stable) > 10
        await one.scraped()
        await rollout.past()
        assert time.monotonic() - start < LONG
        assert rollout.of(stable) == 19
        source.close()
        hasty.close()
    expected = (
        "failed",
        "failed",
        "refused a query",
        "rejected the credentials",
        "redirects to another URL",
        "is not a Prometheus",
        "is not a Prometheus",
        "cannot be read",
        "did not answer within 1 s",
    )
    for sentence, words in zip(sentences, expected, strict=True):
        assert words in sentence
        assert sentence.endswith(".")


async def test_each_credential_is_accepted_and_no_secret_is_logged(
    tier: Handle, pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tier.prometheus_url
    assert pods
    # As in the shipped pod: no file can be written.
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    certificates = tier.directory / "certificates"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    authority = (certificates / "ca.crt").read_text()
    behave, elsewhere = Behaviour(), Behaviour()
    source = Prometheus(settings("http://127.0.0.1:1"))

    async def error(server: Server) -> str | None:
        one = replace(watch(), server=server)
        return (await source.read([one]))[one.key].error

    with before(tier.prometheus_url, behave, context) as url, before(tier.prometheus_url, elsewhere) as other:
        open_to_all = Server(url, ca=authority)
        assert await error(open_to_all) is None
        for server, wanted in (
            (replace(open_to_all, basic_auth=("user", "hush")), "Authorization: Basic dXNlcjpodXNo"),
            (replace(open_to_all, bearer_token="hush\n"), "Authorization: Bearer hush"),
            (replace(open_to_all, headers=(("X-Scope-OrgID", "hush"),)), "X-Scope-OrgID: hush"),
        ):
            behave.wants = {wanted}
            assert await error(server) is None
            assert "rejected the credentials" in str(await error(open_to_all))
            behave.wants, behave.status, behave.location = set(), 307, f"{other}/api/v1/query"
            behave.body = b"you said hush"
            said = str(await error(server))
            assert "redirects to another URL" in said
            assert "hush" not in said
            behave.status, behave.location, behave.body = 200, "", None
        assert elsewhere.seen == [], "a redirect was followed"
        for server, words in (
            (Server(url), "failed TLS verification"),
            (Server(url, ca="hush"), "are not PEM certificates; correct ca.crt"),
            (Server(url, ca=authority, bearer_token="hu\nsh"), "has characters that HTTP does not allow"),
            (Server(url, ca=authority, headers=(("X", "hush\r\nY: z"),)), "has characters that HTTP does not allow"),
            (Server("http://user:hush@127.0.0.1:1"), "http://127.0.0.1:1 cannot be reached"),
            (Server("http://[hush"), "is not a URL; correct it"),
        ):
            said = str(await error(server))
            assert words in said
            assert "hush" not in said
        # Only the authorities of the server itself are trusted.
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "ca.crt"))
        assert "failed TLS verification" in str(await error(Server(url, ca=certifi.contents())))
        assert await error(Server(url, ca=authority)) is None
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        # The operator's own Prometheus takes its authorities from a file.
        own = Prometheus(settings(url, prometheus_ca_file=str(certificates / "ca.crt"), prometheus_bearer_token="hush"))
        one = watch()
        behave.wants = {"Authorization: Bearer hush"}
        assert (await own.read([one]))[one.key].error is None
        own.close()
        missing = Prometheus(settings(url, prometheus_ca_file="/nowhere/ca.crt"))
        assert "/nowhere/ca.crt" in str((await missing.read([one]))[one.key].error)
        missing.close()
    source.close()


async def test_endless_answer_and_missing_secret_are_reported(tier: Handle) -> None:
    assert tier.prometheus_url
    behave = Behaviour()
    with before(tier.prometheus_url, behave) as url:
        source = Prometheus(settings("http://127.0.0.1:1"))
        server = Server(url, headers=(("X-Scope-OrgID", "0"), ("X-Key", "hush-9")), basic_auth=("serin", "hush"))
        one = replace(watch(), server=server, read_until=datetime.now(UTC))
        behave.status, behave.body = 400, b'{"errorType":"bad_data","error":"tenant 0 said xhush_hush-9 at 10"}'
        assert "tenant 0 said x***_*** at 10" in str((await source.read([one]))[one.key].error)
        behave.status, behave.body = 503, b"starting"
        assert "failed (HTTP Status Code 503)" in str((await source.read([one]))[one.key].error)
        behave.status, behave.body = 200, b" " * (MAX_BYTES + 1)
        assert "sent more than 16 MiB; narrow the selector." in str((await source.read([one]))[one.key].error)
        source.close()


async def test_refused_selector_is_reported_with_the_servers_message(source: Prometheus) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=10)
    one, other = (replace(each, read_until=begun) for each in (watch(Tally('x{a=~"("}')), watch(name="other")))
    read = await source.read([one, other])
    assert "refused a query" in str(read[one.key].error)
    assert "missing closing )" in str(read[one.key].error)
    assert read[other.key].error is None
    assert read[other.key].intervals
