"""Connections that never begin their TLS handshake, against a small number of connections and of open files."""

import asyncio
import contextlib
import resource
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.serving.clients import request, serving
from benchmarks.serving.faults.sizes import Sizes

CONNECTIONS = 16
FILES = 300
"""Open files that the service may have; its own limit would be higher."""
PROBES = 20
PROBE_SECONDS = 10.0


async def handshakes(sizes: Sizes) -> dict[str, Any]:
    """Sockets that connect and send nothing to a service with TLS, 16 connections and 300 files: probes get through."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        context = ssl.create_default_context(cafile=str(certificate))
        args = ("--tls-certificate", str(certificate), "--tls-key", str(key), "--max-connections", str(CONNECTIONS))
        async with serving(*args, "--header-seconds", "2", "--log-level", "error", tls=context) as service:
            resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
            before = service.resident()
            silent = []
            for _ in range(sizes.handshakes):
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(1):
                        silent.append(await asyncio.open_connection("127.0.0.1", service.port))
            files = len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))
            statuses, seconds = [], []
            for _ in range(PROBES):
                started = time.perf_counter()
                statuses.append(await _probe(service.port, context))
                seconds.append(time.perf_counter() - started)
            held = sum(not reader.at_eof() for reader, _ in silent)
            for _, writer in silent:
                writer.transport.abort()
            await asyncio.sleep(1)
            then = await _probe(service.port, context)
            after = service.resident()
    return {
        "silent": sizes.handshakes,
        "connected": len(silent),
        "still_held_after_probes": held,
        "files_open": files,
        "probes": PROBES,
        "probes_answered": statuses.count(200),
        "probes_refused": statuses.count(503),
        "probes_cut_off": statuses.count(0),
        "slowest_probe_seconds": max(seconds),
        "probe_then": then,
        "resident_before_mebibytes": before,
        "resident_after_mebibytes": after,
    }


async def _probe(port: int, context: ssl.SSLContext) -> int:
    """Ask whether the service lives; returns the status, 0 for no response."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            try:
                writer.write(request("GET", "/v2/health/live"))
                return int((await reader.readuntil(b"\r\n")).split()[1])
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return 0
