"""Transactions of the asyncio flavour."""

from __future__ import annotations

from coordclient.aio.keeper import Keeper
from coordclient.aio.steps import Plan, Steps, TxnResult, plan_of


class Txn(Steps):
    """Several changes at once, or none: guards, steps, and steps for when a guard does not hold. Made by `Client.txn`.

    A step that cannot be done refuses the whole transaction with its error, and nothing was done; `details["branch"]`
    ("then" or "else") and `details["step"]`, its index there, name it. At most 128 guards, and 128 steps in both
    branches; a node is changed once at most in a branch.

    >>> result = await client.txn().if_exists("/new", False).put("/new", b"1").delete("/old").commit()
    >>> result.succeeded
    True
    """

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self._keeper = keeper

    async def commit(self) -> TxnResult:
        """Do it; raises the error of the step that cannot be done. It may be repeated, as another transaction.

        >>> result = await txn.commit()
        """
        life = self._keeper.alive()
        result = self.result_of(await self._keeper.call("txn", self.arguments(), life))
        for stat in self.ephemerals(result):
            life.opens.made(stat.path, stat.instance)
        return result

    async def plan(self) -> Plan:
        """What `commit` would do now; nothing is done.

        >>> (await txn.plan()).changes
        ('/new', '/old')
        """
        return plan_of(await self._keeper.call("plan_txn", self.arguments()))
