"""Whole cells in one process on virtual time: one seed decides everything, and a failing seed can be told as a story.

| module | duty |
|---|---|
| `world` | true time, the heap of events, chance per concern, the clocks of machines |
| `swarm` | what a seed draws: size, loads, kinds and rates of faults |
| `network` | links: loss, delay, reordering, duplication, cuts, frames held back and delivered late |
| `process` | one replica process: turns, syncs, pauses, crashes, restarts; runs any engine over any store |
| `plain` | the smallest engine and store: exercise for `coordd.paxos` alone |
| `surgeon` | asks for changes of the membership, loses disks |
| `faults` | the nemesis: draws faults, undoes them, ends them all |
| `checkers/` | what must be true: small classes, told of events, raising `Violation` |
| `consensus`, `cell` | the two harnesses: agreement alone, and whole cells with clients |
| `changes` | both with a surgeon |
| `planted/` | known bugs, each a patch applied by the test |
"""
