"""`explain ERROR_CODE`: the row of the error table, in words."""

from __future__ import annotations

from coordctl.errors import Exit, Failure, exit_code_of

ADVICE = {
    "give up": "The same request will fail again: change it, or what it meets.",
    "retry": "Nothing was done. The same request may succeed a little later; the client library retries by itself.",
    "go to master": "Nothing was done. The answer names the master; the client library goes there by itself.",
    "new session": "The session is over, with every lock and ephemeral file that it had. The next call opens another.",
    "outcome unknown": "It may have taken effect, may still do so, or never. Look before you repeat it, or make the"
    " change conditional.",
}


def known() -> list[str]:
    """Every code, of the cell and of the client library."""
    from coordclient.protocol.errors import ERRORS

    return sorted({*ERRORS, *_of_the_library()})


def _of_the_library() -> dict[str, str]:
    """Codes that no cell sends -> what they mean."""
    from coordclient import errors
    from coordclient.protocol.errors import ERRORS

    classes = [made for made in vars(errors).values() if isinstance(made, type) and issubclass(made, errors.CoordError)]
    return {
        made.code: " ".join((made.__doc__ or "").split())
        for made in classes
        if made.code not in ERRORS and made is not errors.CoordError
    }


def explain(code: str) -> dict[str, object]:
    """Fields of one code; a failure with exit 3 that lists all codes if there is no such one."""
    from coordclient.protocol.errors import ERRORS

    kind = ERRORS.get(code)
    if kind is not None:
        meaning, status, action = kind.meaning, kind.status, kind.action.value
    elif code in (library := _of_the_library()):
        meaning, status, action = library[code], None, "give up"
    else:
        raise Failure(f"no error code is called {code[:80]!r}; there are: {', '.join(known())}", Exit.NOT_FOUND)
    return {
        "code": code,
        "meaning": meaning,
        "http_status": status,
        "action": action,
        "advice": ADVICE[action],
        "exit_code": int(exit_code_of(code)),
    }
