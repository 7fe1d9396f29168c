"""The program `coordctl`, and `python -m coordctl`."""

from __future__ import annotations

import signal


def main() -> None:
    """Load what there is to run, and run it. A Ctrl-C meanwhile ends this program as it ends any, without a word."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else whoever started it wants it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from coordctl.main import main as run

    signal.signal(signal.SIGINT, handler)
    run()


if __name__ == "__main__":
    main()
