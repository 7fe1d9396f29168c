"""What a daemon asks of its operating system at start: a listener, descriptors, a quiet garbage collector."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import sys
from collections.abc import Callable

CONNECTION_DEAD_SECONDS = 30
DESCRIPTORS_BESIDE_CONNECTIONS = 256  # files, links to peers, and room to refuse in


class CannotListen(Exception):
    """The address of the listener cannot be had."""


def bind(host: str, port: int) -> socket.socket:
    """The listener; what is set on it holds for every accepted connection (dead ones are found by the kernel)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, CONNECTION_DEAD_SECONDS)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, CONNECTION_DEAD_SECONDS // 3)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotListen(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None
    listener.setblocking(False)
    return listener


def connections_allowed(wanted: int) -> int:
    """How many connections the limit on descriptors leaves room for, at most `wanted`; raises the limit where it may.

    Beyond the limit nothing can be accepted, not even a peer; so connections are refused by name before that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + DESCRIPTORS_BESIDE_CONNECTIONS
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, soft - DESCRIPTORS_BESIDE_CONNECTIONS))


def tune_garbage_collector() -> None:
    """Young garbage is collected as usual; what is there now never again, what gets old only when asked for.

    A full collection stops the loop for as long as the state is large; ended connections leave cycles behind that need
    one, but not at a moment that the collector chooses.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 1_000_000)


def call_at_end_of_stdin(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call once when standard input, a pipe, ends: then whoever started this process is gone."""
    descriptor = sys.stdin.fileno()
    os.set_blocking(descriptor, False)

    def readable() -> None:
        if not os.read(descriptor, 65536):
            loop.remove_reader(descriptor)
            callback()

    loop.add_reader(descriptor, readable)
