"""Addresses of replicas: `http://host:port`, as peers and clients dial them."""

from __future__ import annotations

from urllib.parse import urlsplit

ADDRESS_BYTES_MAX = 255


def parse_address(text: str) -> str:
    """`text` in its one spelling (a slash at the end is dropped); ValueError says what is wrong with it."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise ValueError(f"not a URL ({error}); write http://host:port") from None
    if url.scheme != "http" or not url.hostname or port is None or not 1 <= port <= 65535:
        raise ValueError("write http://host:port with all three parts (TLS is not supported yet)")
    if url.path not in ("", "/") or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("write http://host:port and nothing more: no user, path or query")
    if url.hostname in ("0.0.0.0", "::"):
        raise ValueError("names every address of a host, so nobody can dial it; write the one that others reach")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    address = f"http://{host}:{port}"
    if not text.isascii() or not text.isprintable() or " " in text or len(address) > ADDRESS_BYTES_MAX:
        raise ValueError(f"an address has at most {ADDRESS_BYTES_MAX} printable ASCII characters and no space")
    return address
