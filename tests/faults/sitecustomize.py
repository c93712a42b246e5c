"""Faults inside a real vLLM, for the pods of test_faults.py: Python imports this file when it starts.

It is on the pods' PYTHONPATH, and the environment variable FAULT chooses what happens to inference requests:

hang     three of ten are never answered
missing  all are answered 404, as if the model had been renamed
reset    every second connection that carries one is reset before the request is read; probes are spared

The application inside vLLM's middlewares is patched, so Serin's middleware sees what it would see of a defect in vLLM.
"""

from __future__ import annotations

import asyncio
import itertools
import os

FAULT = os.environ.get("FAULT", "")


def _hangs(number: int) -> bool:
    return number * 3 // 10 > (number - 1) * 3 // 10


def _patch_application() -> None:
    from starlette.responses import JSONResponse
    from starlette.routing import Router

    original, numbers = Router.__call__, itertools.count(1)

    async def faulty(self, scope, receive, send):
        if scope["type"] == "http" and scope["method"] == "POST":
            if FAULT == "missing":
                await JSONResponse({"error": {"message": "The model does not exist."}}, 404)(scope, receive, send)
                return
            if _hangs(next(numbers)):
                await asyncio.Event().wait()
        await original(self, scope, receive, send)

    Router.__call__ = faulty


def _patch_connections() -> None:
    from uvicorn.protocols.http import h11_impl, httptools_impl

    numbers = itertools.count(1)
    for protocol in (h11_impl.H11Protocol, httptools_impl.HttpToolsProtocol):

        def data_received(self, data, original=protocol.data_received):
            if data.startswith(b"POST ") and next(numbers) % 2:
                self.transport.abort()
                return
            original(self, data)

        protocol.data_received = data_received


if FAULT in {"hang", "missing"}:
    _patch_application()
elif FAULT == "reset":
    _patch_connections()
