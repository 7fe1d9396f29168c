"""Where there is no door, or one for something else: a named error, as everywhere, that says where the doors are."""

from __future__ import annotations

import json

import pytest

from tests.unit.api.fakes import open_house


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "words"),
    [
        ("GET", "/", 404, "unknown_operation", "POST /v1/<operation>"),
        ("GET", "/v1/watch/?path=/a", 404, "unknown_operation", "GET /v1/watch"),
        ("POST", "/v2/put", 404, "unknown_operation", "'/v2/put'"),
        ("POST", "/livez", 400, "bad_request", "GET or HEAD, not by POST"),
        ("HEAD", "/v1/watch?path=/a", 400, None, ""),
        ("OPTIONS", "/v1/watch?path=/a", 400, "bad_request", "POST"),
        ("DELETE", "/v1/channel", 400, "bad_request", "POST"),
    ],
)
async def test_what_is_asked_for_elsewhere_or_otherwise_has_a_named_error_too(
    method: str, path: str, status: int, code: str | None, words: str
) -> None:
    async with open_house() as house, house.client.request(method, f"{house.url}{path}") as got:
        answer = json.loads(await got.text() or "{}")
        assert (got.status, answer.get("code")) == (status, code) and words in answer.get("message", "")
        assert not house.service.calls
