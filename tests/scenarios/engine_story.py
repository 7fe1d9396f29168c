"""Plays a story: commands (lines that begin with `>`) in, and behind each what followed from it.

    > cell REPLICAS                     > open NAME [lease_ms=N]         > run MS        time passes
    > NAME OPERATION [key=value ...]    (`@R` sends it to replica R; `again=N` retries call N; `step` as the last word:
                                        only that replica takes one step, nothing is delivered)
    > take_over NEW OLD                 (a new process, NEW, resumes the session of OLD)
    > crash R | start R | isolate R | heal | pause R | resume R | hand_over R TO | hold_disk R | free_disk R | settle

What follows: roles, chosen slots (told once, by whoever knows first), answers. Replicas are `r1`..., the master is `M`.
"""

from __future__ import annotations

from typing import Any

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import HandOverRequest
from coordd.machine.commands import Command, decode_batch
from coordd.paxos.effects import ValueKind
from tests.unit.engine.cell import Cell, Client, Node


class Story:
    """One cell and its clients; `play` returns the lines that one command adds."""

    def __init__(self) -> None:
        self.cell = Cell(1)
        self.begun_ms = 0
        self.clients: dict[str, Client] = {}
        self.asked: dict[int, str] = {}
        self.told_upto = 0
        self.roles: dict[int, str] = {}

    def play(self, line: str) -> list[str]:
        words = line.split()
        match words:
            case ["cell", replicas]:
                self.cell = Cell(int(replicas))
                self.begun_ms = self.cell.now_ms
                self.cell.master()
            case ["run", ms]:
                self.cell.run(int(ms))
            case ["open", name, *rest]:
                self.clients[name] = self.cell.open(**_values(rest))
            case ["take_over", name, old]:
                self._take_over(name, self.clients[old])
            case ["settle"]:
                self.cell.settle()
            case ["heal"]:
                self.cell.heal()
            case ["hand_over", replica, to]:
                self._node(replica).inbox.append(HandOverRequest(int(to)))
                self.cell.settle()
            case [("crash" | "start" | "isolate" | "pause" | "resume" | "hold_disk" | "free_disk") as what, replica]:
                self._replica(what, self._node(replica))
            case [name, operation, *rest]:
                self._call(name, operation, rest)
            case _:
                raise AssertionError(f"no story has {line!r}")
        return self._followed()

    def _node(self, name: str) -> Node:
        return self.cell.master() if name == "M" else self.cell.nodes[int(name.removeprefix("r"))]

    def _replica(self, what: str, node: Node) -> None:
        match what:
            case "crash":
                node.crash()
            case "start":
                node.start()
            case "isolate":
                self.cell.isolate(node.replica)
            case "pause" | "resume":
                node.paused = what == "pause"
            case "hold_disk" | "free_disk":
                node.disk_held = what == "hold_disk"
                self.cell.settle()

    def _take_over(self, name: str, old: Client) -> None:
        new_secret = name * 32
        about: dict[str, Any] = {"session": old.session, "secret": old.secret, "new_secret": new_secret}
        request = self.cell.call("resume_session", **about)
        self.asked[request] = f"{name} resume_session"
        self.cell.settle()
        answer = self.cell.answers[request]
        if not isinstance(answer, Refusal):
            client = self.clients[name] = Client(self.cell, old.session, new_secret)
            client.number = answer["next_call"]

    def _call(self, name: str, operation: str, words: list[str]) -> None:
        client = self.clients[name]
        only_step = words[-1:] == ["step"]
        places = [word for word in words if word.startswith("@")]
        node = self._node(places[0][1:]) if places else self.cell.master()
        values = _values([word for word in words if "=" in word])
        again: int | None = None
        if operation == "attach":
            client.attachment += 1
            about: dict[str, Any] = {
                "session": client.session,
                "secret": client.secret,
                "attachment": client.attachment,
            }
            request = self.cell.call("attach", node, **about)
        elif operation == "keep_alive":
            request = client.keep_alive(node, **values)
        else:
            again = values.pop("again", None)
            request = client.call(operation, node, number=again, **values)
        number = "" if operation == "attach" else again or client.number
        self.asked[request] = f"{name} {operation} {number}".strip()
        if only_step:
            node.step()
        else:
            self.cell.settle()

    def _followed(self) -> list[str]:
        at = self.cell.now_ms - self.begun_ms
        lines = []
        for replica, node in self.cell.nodes.items():
            core = node.engine.replica
            role = f"{core.role.value}, epoch {core.epoch}" if core.role.value == "master" else core.role.value
            if node.alive and self.roles.get(replica) != role:
                self.roles[replica] = role
                lines.append(f"r{replica} is {role}")
        lines += self._chosen()
        for request in sorted(set(self.asked) & set(self.cell.answers)):
            lines.append(f"{self.asked.pop(request)}: {_said(self.cell.answers[request])}")
        return [f"  [{at}] {line}" for line in lines]

    def _chosen(self) -> list[str]:
        lines = []
        for node in self.cell.nodes.values():
            log = node.engine.replica.state.log
            while node.alive and self.told_upto < log.chosen_upto:
                self.told_upto += 1
                value = log.entries[self.told_upto][1]
                lines.append(f"chosen {self.told_upto}: {_value(value)}")
        return lines


def _values(words: list[str]) -> dict[str, Any]:
    pairs = [word.split("=", 1) for word in words]
    kinds: dict[str, Any] = {"contents": str.encode, "path": str, "mode": str, "reason": str}
    kinds |= dict.fromkeys(("wait", "now"), lambda text: text == "yes")
    return {key: kinds.get(key, int)(value) for key, value in pairs}


def _value(value: bytes) -> str:
    kind = ValueKind(value[0])
    if kind is ValueKind.EPOCH:
        return f"epoch {int.from_bytes(value[1:], 'big')}"
    if kind is ValueKind.NO_OP:
        return "no-op"
    return ", ".join(_command(command) for command in decode_batch(value[1:])[1])


def _command(command: Command) -> str:
    arguments = command.arguments
    names = " ".join(f"{key}={arguments[key]}" for key in ("path", "session", "hold", "epoch") if key in arguments)
    caller = f"{command.session}/{command.call} " if command.session else ""
    return f"{caller}{command.operation} {names}".strip()


def _said(answer: Any) -> str:
    if isinstance(answer, Refusal):
        return f"refused, {answer.code}"
    told = ("session", "epoch", "incarnation", "lease_ms", "revoked", "left", "token", "hold", "did")
    shown = {key: answer[key] for key in told if key in answer}
    if "contents" in answer:
        shown["contents"] = answer["contents"].decode()
    return " ".join(f"{key}={value}" for key, value in shown.items()) or "done"
