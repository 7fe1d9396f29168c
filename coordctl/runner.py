"""`lock PATH -- CMD`: two processes that watch each other.

    shell ── front ── CMD ── ...            the terminal's job; CMD in a group of its own
               └──── keeper                 a process session of its own, out of reach of the terminal's signals

The keeper holds the coordd session; it tells the front each new deadline of the lock. The front kills the command when
that deadline comes near or the pipe from the keeper ends; the keeper kills it when the front is gone or silent. One of
them killed or stopped is survived; both stopped at once is the case that only the fencing token covers.
"""

from __future__ import annotations

import os
import sys

from coordctl import pipes
from coordctl.command import check_command
from coordctl.front import Front, Show
from coordctl.order import Order


def run_lock(order: Order, show: Show) -> int:
    """The exit code. `show` prints the grants where there is no command to give it to.

    The keeper is forked, not started anew: this process has one thread and has not loaded the client library yet.
    """
    order.check()
    if order.command:
        check_command(order.command)
    from_keeper, keeper_writes = pipes.make_pipe()
    keeper_reads, to_keeper = pipes.make_pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    front = os.getpid()
    keeper = os.fork()
    if keeper == 0:
        from coordctl.keeper import be_keeper

        be_keeper(order, keeper_reads, keeper_writes, front)
    os.close(keeper_reads)
    os.close(keeper_writes)
    return Front(order, from_keeper, to_keeper, keeper, show).run()
