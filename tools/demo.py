"""real daemons, real disk, a master killed with -9, locks kept, a holder that is told when it loses; about 20 s"""

from __future__ import annotations

import signal
import sys
import time

from coordclient import Client, CoordError, Fence, StaleToken
from coordd.testing.cells import RunningCell, start_cell
from tools._demo_parts import DemoFailedError, Event, Narrator, Worker, Workers
from tools._demo_verdict import Findings, verdict
from tools._demo_worker import COUNTER, KEPT_LOCK, SLEEPER_LOCK

FAILOVER_SECONDS_MAX = 10.0


class Demo:
    """The story, chapter by chapter; every chapter raises `DemoFailedError` if it does not come true."""

    def __init__(self, narrator: Narrator, cell: RunningCell, workers: Workers) -> None:
        self.tell = narrator
        self.cell = cell
        self.workers = workers
        self.found = Findings()
        self.fence = Fence()

    def count(self) -> tuple[Worker, Worker]:
        """Two counters."""
        with Client(self.cell.endpoints, name="demo") as client:
            client.create(COUNTER, b"0", parents=True)
        counters = self.workers.start("counter", "counter A"), self.workers.start("counter", "counter B")
        for worker in counters:
            self.workers.wait_for(worker, "incremented")
        self.tell.say(f"two processes (pid {counters[0].pid}, {counters[1].pid}) increment the file {COUNTER}:")
        self.tell.add("take the lock, get, add one, put, release")
        return counters

    def keep(self) -> Worker:
        """A third process holds a lock from now to the end."""
        worker = self.workers.start("keeper", "the third process")
        token = self.workers.wait_for(worker, "acquired")["token"]
        self.tell.say(f"a third (pid {worker.pid}) holds {KEPT_LOCK} from now on, token {token}")
        return worker

    def kill_master(self, counters: tuple[Worker, Worker]) -> None:
        """kill -9, and how long it takes until an increment that began afterwards is done."""
        self.workers.pump(3.0)
        self.found.killed = self.cell.master()
        made = sum(len(worker.of("incremented")) for worker in counters)
        self.tell.say(f"{made} increments so far; now kill -9 of the master, replica {self.found.killed}")
        self.found.killed_at = time.monotonic()
        self.cell.kill(self.found.killed)
        self.found.first_after = self._first_increment_after(counters, self.found.killed_at)["at"]
        gap = self.found.first_after - self.found.killed_at
        self.found.new_master = self.cell.master()
        self.tell.say(f"replica {self.found.new_master} is the master; {gap:.2f} s from the kill to the next increment")
        if self.found.new_master == self.found.killed:
            raise DemoFailedError("the killed replica cannot be the master")

    def _first_increment_after(self, counters: tuple[Worker, Worker], moment: float) -> Event:
        waited = 0.0
        while waited < FAILOVER_SECONDS_MAX:
            # One that was under way when the master died may be done by its last breath: only later ones are asked.
            new = [event for worker in counters for event in worker.of("incremented") if event["begun"] > moment]
            if new:
                return min(new, key=lambda event: float(event["at"]))
            self.workers.pump(0.05)
            waited += 0.05
        raise DemoFailedError(f"no new increment within {FAILOVER_SECONDS_MAX:.0f} s of the kill")

    def restart(self) -> None:
        """The killed replica comes back with what its disk holds."""
        self.workers.pump(1.5)
        self.cell.restart(self.found.killed)
        self.tell.say(f"replica {self.found.killed} is started again, has recovered from its disk and follows")

    def sleep_through_a_loss(self) -> None:
        """A holder that is stopped beyond its deadline, its successor, and the protected side."""
        first = self.workers.start("sleeper", "the fourth process")
        self.found.old_token = self.workers.wait_for(first, "acquired")["token"]
        self._write(first, 1)
        first.process.send_signal(signal.SIGSTOP)
        self.tell.say(f"a fourth (pid {first.pid}) takes {SLEEPER_LOCK}, token {self.found.old_token}, writes, and is")
        self.tell.add("stopped with SIGSTOP: it cannot know what happens now")
        second = self.workers.start("sleeper", "the fifth process")
        self.found.new_token = self.workers.wait_for(second, "acquired")["token"]
        self._write(second, 1)
        self.tell.say(f"a fifth waited for that lock, has it now with token {self.found.new_token}, and writes")
        first.process.send_signal(signal.SIGCONT)
        first.go_on()
        self.workers.wait_for(first, "write", 2)
        try:
            self._write(first, 2)
        except StaleToken as error:
            self.found.refused = str(error)
        self.tell.say("the fourth wakes and writes without a look; the protected side says:")
        self.tell.add(self.found.refused or "ACCEPTED")
        lost = self.workers.wait_for(first, "lost")
        self.found.told = str(lost["error"])
        self.tell.say("then it looks, and is told:")
        self.tell.add(f"{lost['error']}: {lost['reason']}")
        self.workers.finish(second)

    def _write(self, worker: Worker, count: int) -> None:
        """The protected side: it asks its fence and nobody else."""
        event = self.workers.wait_for(worker, "write", count)
        self.fence.admit(SLEEPER_LOCK, event["token"])


def judge(demo: Demo, counters: tuple[Worker, Worker], kept: Worker) -> bool:
    """The summary; False if anything is not as it should be."""
    with Client(demo.cell.endpoints, name="demo") as client:
        value = int(client.get(COUNTER).contents)
    made = [worker.of("incremented") for worker in counters]
    lines = verdict(demo.found, made, value, kept.of("acquired"), kept.of("kept"))
    demo.tell.head("What this showed")
    for good, text in lines:
        demo.tell.result(good, text)
    return all(good for good, _ in lines)


NEXT = """
  ./dev up                                   a development cell in the foreground; then, in another terminal:
  .venv/bin/coordctl lock /demo -- sh -c 'echo "holding with token $COORD_LOCK_TOKEN"; sleep 3'
  .venv/bin/coordctl cell status
  ./dev test                                 everything that this project claims, tried out"""


def play(tell: Narrator) -> bool:
    tell.say("starting three replicas")
    with start_cell(3, cell="demo") as cell, Workers(cell.endpoints) as workers:
        demo = Demo(tell, cell, workers)
        ports = ", ".join(address.rpartition(":")[2] for address in cell.addresses.values())
        tell.say(f"three real daemons run on 127.0.0.1, ports {ports}; replica {cell.master()} is the master")
        counters, kept = demo.count(), demo.keep()
        demo.kill_master(counters)
        demo.restart()
        demo.sleep_through_a_loss()
        for worker in (*counters, kept):
            if workers.finish(worker) != 0:
                raise DemoFailedError(f"{worker.name} ended with {worker.process.returncode}")
        tell.say("all processes have ended")
        return judge(demo, counters, kept)


def main() -> int:
    tell = Narrator()
    print("coordd: three real daemons, real disk, one kill -9. It takes about 20 seconds.\n", flush=True)
    try:
        good = play(tell)
    except (DemoFailedError, CoordError, AssertionError, OSError) as error:
        tell.say(f"{type(error).__name__}: {error}")
        good = False
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if good:
        tell.head("What to type next")
        print(NEXT.lstrip("\n"))
        return 0
    print("\nTHE DEMO FAILED: what it is to show is not so, see above.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
