"""What a transaction of both flavours consists of, put together call by call; and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

from coordclient.aio.files import contents_of, entries_of, file_of, int_in, path_of, stat_in
from coordclient.errors import CoordError, InternalError, error_of
from coordclient.protocol.errors import Refusal
from coordclient.values import Entry, File, Stat

Comparison = Literal["==", "!=", "<", "<=", ">", ">="]
Result = Stat | File | int | list[Entry]


class TxnResult(NamedTuple):
    """What a transaction did. `succeeded`: every guard held, so `then` was done, else `otherwise`. All changes have the
    one `revision`. `results`: of each step that was done: Stat (put, create, mkdir, stat), File (get), list of Entry
    (ls), or the revision (delete). `guards`: which of them held, in their order."""

    succeeded: bool
    revision: int
    results: tuple[Result, ...]
    guards: tuple[bool, ...] = ()


class Plan(NamedTuple):
    """What a transaction would do now. `guards`: which of them hold, in their order; `changes`: the paths that it would
    make, write or remove; `refused`: the error that it would end with, if so (`details["branch"]` and `details["step"]`
    say where)."""

    revision: int
    succeeded: bool
    guards: tuple[bool, ...]
    changes: tuple[str, ...]
    refused: CoordError | None


class Steps:
    """Guards, and the steps of both branches. Every method gives the same object back."""

    def __init__(self) -> None:
        self._guards: list[dict[str, object]] = []
        self._branches: tuple[list[dict[str, object]], list[dict[str, object]]] = ([], [])
        self._branch = 0

    # --- guards

    def if_exists(self, path: str, exists: bool = True) -> Self:
        """Only if there is a node (or, with False, none)."""
        return self._guard({"path": path_of(path), "exists": exists})

    def if_generation(self, path: str, generation: int, op: Comparison = "==") -> Self:
        """Only if `stat.content_generation` compares so with `generation`. A missing node has no generation."""
        return self._guard({"path": path_of(path), "content_generation": generation, "is": op})

    def if_instance(self, path: str, instance: int, op: Comparison = "==") -> Self:
        """Only if `stat.instance` compares so with `instance`: it is the same node still."""
        return self._guard({"path": path_of(path), "instance": instance, "is": op})

    def if_lock_generation(self, path: str, generation: int, op: Comparison = "==") -> Self:
        """Only if `stat.lock_generation` compares so with `generation`."""
        return self._guard({"path": path_of(path), "lock_generation": generation, "is": op})

    def if_acl_generation(self, path: str, generation: int, op: Comparison = "==") -> Self:
        """Only if `stat.acl_generation` compares so with `generation`."""
        return self._guard({"path": path_of(path), "acl_generation": generation, "is": op})

    def if_revision(self, path: str, revision: int, op: Comparison = "==") -> Self:
        """Only if `stat.revision` compares so with `revision`."""
        return self._guard({"path": path_of(path), "revision": revision, "is": op})

    def if_checksum(self, path: str, checksum: str) -> Self:
        """Only if `stat.checksum` (16 hex digits) is that: the contents are the same."""
        return self._guard({"path": path_of(path), "checksum": checksum})

    def if_held(self, path: str, held: bool = True) -> Self:
        """Only if the lock is held by anybody (or, with False, by nobody)."""
        return self._guard({"path": path_of(path), "held": held})

    def if_sequencer(self, sequencer: str) -> Self:
        """Only while that lock is held by that very holder."""
        return self._guard({"sequencer": sequencer})

    def guard(self, wire: Mapping[str, object]) -> Self:
        """A guard as the protocol spells it, for programs that read transactions."""
        return self._guard(dict(wire))

    # --- steps

    def put(
        self,
        path: str,
        contents: bytes,
        *,
        if_generation: int | None = None,
        if_absent: bool = False,
        parents: bool = False,
    ) -> Self:
        """As `Client.put`."""
        step: dict[str, object] = {"path": path_of(path), "contents": contents_of(contents)}
        if if_generation is not None:
            step["if_generation"] = if_generation
        return self._step("put", step, if_absent=if_absent, parents=parents)

    def create(self, path: str, contents: bytes = b"", *, ephemeral: bool = False, parents: bool = False) -> Self:
        """As `Client.create`."""
        step: dict[str, object] = {"path": path_of(path), "contents": contents_of(contents)}
        return self._step("create", step, ephemeral=ephemeral, parents=parents)

    def mkdir(self, path: str, *, ephemeral: bool = False, parents: bool = False) -> Self:
        """As `Client.mkdir`."""
        return self._step("mkdir", {"path": path_of(path)}, ephemeral=ephemeral, parents=parents)

    def delete(self, path: str, *, if_generation: int | None = None) -> Self:
        """As `Client.delete`."""
        step: dict[str, object] = {"path": path_of(path)}
        if if_generation is not None:
            step["if_generation"] = if_generation
        return self._step("delete", step)

    def get(self, path: str) -> Self:
        """Read a file, as it is at this point of the transaction."""
        return self._step("get", {"path": path_of(path)})

    def stat(self, path: str) -> Self:
        """Read a stat, as it is at this point of the transaction."""
        return self._step("stat", {"path": path_of(path)})

    def ls(self, path: str) -> Self:
        """Read a directory, as it is at this point of the transaction."""
        return self._step("ls", {"path": path_of(path)})

    def step(self, wire: Mapping[str, object]) -> Self:
        """A step as the protocol spells it (`do` and the arguments of that operation)."""
        self._branches[self._branch].append(dict(wire))
        return self

    def otherwise(self) -> Self:
        """The steps from here on are done instead of those before, when a guard does not hold."""
        if self._branch:
            raise ValueError("a transaction has one `otherwise`")
        self._branch = 1
        return self

    # --- what is sent, and what comes back

    def arguments(self) -> dict[str, object]:
        """Of the operation `txn` or `plan_txn`."""
        then, otherwise = self._branches
        return {"guards": list(self._guards), "then": list(then), "else": list(otherwise)}

    def result_of(self, answer: Mapping[str, Any]) -> TxnResult:
        """The answer to `txn`."""
        try:
            succeeded, results = answer["succeeded"], answer["results"]
            steps = self._branches[0 if succeeded else 1]
            made = tuple(_READERS[str(step["do"])](result) for step, result in zip(steps, results, strict=True))
        except (KeyError, TypeError, ValueError) as error:
            raise InternalError(f"the cell's answer holds no usable results: {error!r}") from None
        return TxnResult(succeeded, int_in(answer, "revision"), made, tuple(answer.get("guards") or ()))

    def ephemerals(self, result: TxnResult) -> list[Stat]:
        """The ephemeral nodes that it made."""
        steps = self._branches[0 if result.succeeded else 1]
        pairs = zip(steps, result.results, strict=True)
        return [made for step, made in pairs if step.get("ephemeral") and isinstance(made, Stat)]

    def _guard(self, guard: dict[str, object]) -> Self:
        if guard.get("is") == "==":
            del guard["is"]
        self._guards.append(guard)
        return self

    def _step(self, do: str, step: dict[str, object], **flags: bool) -> Self:
        self._branches[self._branch].append({"do": do, **step, **{name: True for name, flag in flags.items() if flag}})
        return self


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Result]] = {
    "put": stat_in,
    "create": stat_in,
    "mkdir": stat_in,
    "stat": stat_in,
    "get": file_of,
    "ls": entries_of,
    "delete": lambda answer: int_in(answer, "revision"),
}


def plan_of(answer: Mapping[str, Any]) -> Plan:
    """The answer to `plan_txn`."""
    try:
        refused = answer["refused"]
        error = None if refused is None else error_of(Refusal.from_wire(refused))
        guards: Sequence[bool] = answer["guards"]
        return Plan(answer["revision"], answer["succeeded"], tuple(guards), tuple(answer["changes"]), error)
    except (KeyError, TypeError, AttributeError) as failed:
        raise InternalError(f"the cell's answer holds no usable plan: {failed!r}") from None
