"""PURE. The ticket by which another process, or the same one started again, takes a session over: its id and secret.

It is as good as the session itself: whoever has it holds the session's locks. Each resume draws a new secret, so a
ticket is good for one resume; the one who resumed has a ticket of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "coordd1"
SECRET_CHARACTERS_MAX = 128


@dataclass(frozen=True, slots=True)
class Ticket:
    """A session and its present secret."""

    session: int
    secret: str

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """The inverse of `str`; raises ValueError, which repeats nothing of what was given."""
        prefix, _, rest = str(text).partition(".")
        session, _, secret = rest.partition(".")
        if prefix != PREFIX or not session.isascii() or not session.isdigit() or len(session) > 16:
            raise ValueError(f"resume must be a ticket ({PREFIX}.SESSION.SECRET), as Client.ticket gives it")
        if not 0 < len(secret) <= SECRET_CHARACTERS_MAX or int(session) == 0:
            raise ValueError(
                f"resume must be a ticket with a session and a secret of 1 to {SECRET_CHARACTERS_MAX} characters"
            )
        return cls(int(session), secret)

    def __str__(self) -> str:
        return f"{PREFIX}.{self.session}.{self.secret}"

    def __repr__(self) -> str:
        return f"Ticket({self.session}, ...)"  # a secret is not shown by accident


class Resume:
    """A resume under way: tried with the same new secret until it is answered, so that a lost answer loses nothing."""

    __slots__ = ("new_secret", "ticket")

    def __init__(self, ticket: Ticket, new_secret: str) -> None:
        self.ticket = ticket
        self.new_secret = new_secret

    def arguments(self) -> dict[str, object]:
        """Of `resume_session`, but for `client`."""
        return {"session": self.ticket.session, "secret": self.ticket.secret, "new_secret": self.new_secret}
