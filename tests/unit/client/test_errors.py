"""One tree of errors, built from the protocol's table."""

from __future__ import annotations

import pytest

from coordclient import errors
from coordclient.errors import CLASSES, CoordError, error_of
from coordclient.protocol.errors import ERRORS, Action, Refusal


def test_every_code_of_the_protocol_has_exactly_one_class_and_no_class_lacks_a_row():
    assert set(CLASSES) == set(ERRORS)
    assert len(set(CLASSES.values())) == len(CLASSES)


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_an_error_keeps_code_message_and_details_and_says_whether_to_retry(code):
    error = error_of(Refusal(code, "why it was so", holder="somebody"))
    assert isinstance(error, CoordError)
    assert (error.code, str(error), error.details) == (code, "why it was so", {"holder": "somebody"})
    assert error.retryable == (ERRORS[code].action in (Action.RETRY, Action.GO_TO_MASTER))


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (errors.LockTimeout, TimeoutError),
        (errors.OutcomeUnknown, TimeoutError),
        (errors.PermissionDenied, PermissionError),
        (errors.NotFound, FileNotFoundError),
        (errors.Exists, FileExistsError),
        (errors.Unavailable, ConnectionError),
        (errors.BadRequest, ValueError),
    ],
)
def test_an_error_has_the_standard_base_that_fits(cls, base):
    with pytest.raises(base, match="so it was"):
        raise cls("so it was")


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_outcome_unknown_is_never_told_as_failed(code):
    unknown = ERRORS[code].action is Action.OUTCOME_UNKNOWN
    assert issubclass(CLASSES[code], errors.OutcomeUnknown) == unknown
