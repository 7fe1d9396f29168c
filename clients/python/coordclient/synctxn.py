"""Transactions of the thread flavour."""

from __future__ import annotations

from coordclient.aio.steps import Plan, Steps, TxnResult
from coordclient.aio.txn import Txn as AioTxn
from coordclient.worker import Worker


class Txn(Steps):
    """Several changes at once, or none: guards, steps, and steps for when a guard does not hold. Made by `Client.txn`.

    A step that cannot be done refuses the whole transaction with its error, and nothing was done; `details["branch"]`
    ("then" or "else") and `details["step"]`, its index there, name it. At most 128 guards, and 128 steps in both
    branches; a node is changed once at most in a branch.

    >>> result = client.txn().if_exists("/new", False).put("/new", b"1").delete("/old").commit()
    >>> result.succeeded
    True
    """

    def __init__(self, txn: AioTxn, worker: Worker) -> None:
        super().__init__()
        # The steps are those of the transaction that the loop commits.
        self._guards, self._branches = txn._guards, txn._branches
        self._txn = txn
        self._worker = worker

    def commit(self) -> TxnResult:
        """Do it; raises the error of the step that cannot be done. It may be repeated, as another transaction.

        >>> result = txn.commit()
        """
        return self._worker.run(self._txn.commit)

    def plan(self) -> Plan:
        """What `commit` would do now; nothing is done.

        >>> txn.plan().changes
        ('/new', '/old')
        """
        return self._worker.run(self._txn.plan)
