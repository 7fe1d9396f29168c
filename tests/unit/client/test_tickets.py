"""A ticket is text that survives a file, and nothing that only looks like one is taken for it."""

from __future__ import annotations

import pytest

from coordclient.tickets import Resume, Ticket


def test_a_ticket_is_read_back_as_it_was_written():
    ticket = Ticket(2**53 - 1, "a.b-c_d=")
    assert Ticket.parse(str(ticket)) == ticket


def test_a_ticket_is_not_shown_by_accident():
    assert "secret" not in repr(Ticket(7, "secret"))


@pytest.mark.parametrize(
    "text",
    ["", "coordd1", "coordd1.7", "coordd1.7.", "coordd1.x.s", "coordd1.-7.s", "coordd1.0.s", "coordd1.².s", "other.7.s",
     "coordd1.12345678901234567.s", "coordd1.7." + "s" * 129, 7, b"coordd1.7.s"],
)  # fmt: skip
def test_what_is_no_ticket_is_refused_without_repeating_it(text):
    with pytest.raises(ValueError, match="resume must be a ticket") as caught:
        Ticket.parse(text)
    assert "12345678901234567" not in str(caught.value)
    assert "sss" not in str(caught.value)


def test_a_resume_is_tried_again_with_the_same_new_secret():
    resume = Resume(Ticket(7, "old"), "new")
    assert resume.arguments() == resume.arguments() == {"session": 7, "secret": "old", "new_secret": "new"}
