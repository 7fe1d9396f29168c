"""Clients: stopped, asleep, killed, closed, cut off, mute about their session, with broken and late connections."""

from __future__ import annotations

from random import Random

from coordd.engine.inputs import HandOverRequest
from tests.simulation.faults.fault import Fault
from tests.simulation.faults.nemesis import Nemesis, long_us
from tests.simulation.network import DROP, HOLD, Name


def _pause(nemesis: Nemesis, chance: Random) -> None:
    """SIGSTOP."""
    nemesis.client(chance).pause(long_us(chance, 50_000, 20_000_000))


def _sleep(nemesis: Nemesis, chance: Random) -> None:
    """The machine is suspended: timers do not count that time, the clock of the sessions does."""
    nemesis.client(chance).sleep(long_us(chance, 50_000, 20_000_000))


def _break(nemesis: Nemesis, chance: Random) -> None:
    """A connection breaks: both sides are told, or one, or none. Untold, a replica has two channels of one client."""
    nemesis.client(chance).break_channel()


def _gone(nemesis: Nemesis, chance: Random) -> None:
    """kill -9; another process begins later."""
    nemesis.client(chance).vanish()


def _close(nemesis: Nemesis, chance: Random) -> None:
    """It closes its client in the middle of its work."""
    nemesis.client(chance).close()


def _mute(nemesis: Nemesis, chance: Random) -> None:
    """Its KeepAlives do not leave, its calls do: calls keep no session alive."""
    nemesis.client(chance).mute(long_us(chance, 200_000, 20_000_000))


def _cut(nemesis: Nemesis, chance: Random) -> None:
    name = nemesis.client(chance).name
    replicas: list[Name] = list(nemesis.processes)
    some = chance.sample(replicas, chance.randint(1, len(replicas)))
    links = nemesis.network.cut_between([name], some, chance.choice((DROP, HOLD)), chance.random() < 0.6)
    nemesis.world.after(long_us(chance, 100_000, 15_000_000), nemesis.heal, links)


def _deaf(nemesis: Nemesis, chance: Random) -> bool:
    """Nothing that a replica says reaches the one with the longest cache lease, so it believes for a while in what is
    over; it may be heard itself. Then the replica may end their connection, or the mastership may go to another."""
    client, replicas = max(nemesis.clients, key=lambda client: client.cached_ms()), list(nemesis.processes)
    if not client.cached_ms():
        return False
    then = chance.choice(("nothing", "broken", "handed over"))
    how, both = chance.choice((DROP, HOLD)), then != "nothing" and chance.random() < 0.5
    links = nemesis.network.cut_between(replicas, [client.name], how, both)
    nemesis.world.after(long_us(chance, 500_000, 8_000_000), nemesis.heal, links)
    if then == "broken":
        client.break_channel("replica")
    elif then == "handed over":
        nemesis.later(long_us(chance, 1_000, 100_000), lambda: _hand_over(nemesis))
    return True


def _hand_over(nemesis: Nemesis) -> None:
    for master in nemesis.masters():
        master.put(HandOverRequest(None))


def _late_frames(nemesis: Nemesis, chance: Random) -> None:
    """Its frames wait in the buffer of a connection that it gives up, and come much later."""
    nemesis.client(chance).hold_frames(long_us(chance, 20_000, 500_000), long_us(chance, 500_000, 15_000_000))


def _heir(nemesis: Nemesis, chance: Random) -> bool:
    """Another process resumes its session, with or without goodbye, or while it runs on, or stands still."""
    client, how = nemesis.client(chance), chance.choice(("killed", "left", "running", "running", "stopped", "cut off"))
    former = client.hand_on(how, long_us(chance, 1_000_000, 30_000_000))
    if how == "stopped" and former is not None:
        client.pause_former(long_us(chance, 1_000_000, 20_000_000))
    elif how == "cut off" and former is not None:
        links = nemesis.network.cut_between([former], list(nemesis.processes), chance.choice((DROP, HOLD)))
        nemesis.world.after(long_us(chance, 1_000_000, 20_000_000), nemesis.heal, links)
    return former is not None


FAULTS = (
    Fault("client_pause", 0.4, 1_500, 10_000, _pause, of_clients=True),
    Fault("client_sleep", 0.3, 2_000, 10_000, _sleep, of_clients=True),
    Fault("client_break", 0.5, 500, 8_000, _break, of_clients=True),
    Fault("client_gone", 0.4, 3_000, 15_000, _gone, of_clients=True),
    Fault("client_close", 0.3, 2_000, 12_000, _close, of_clients=True),
    Fault("client_mute", 0.3, 2_000, 12_000, _mute, of_clients=True),
    Fault("client_cut", 0.3, 1_500, 10_000, _cut, of_clients=True),
    Fault("client_heir", 0.4, 300, 3_000, _heir, of_clients=True),
    Fault("client_deaf", 0.0, 400, 2_500, _deaf, of_clients=True),  # only where a cell is about it
    Fault("client_late_frames", 0.3, 1_500, 8_000, _late_frames, of_clients=True),
)
