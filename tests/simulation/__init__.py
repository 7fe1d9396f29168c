"""Whole cells in one process on virtual time: one seed decides everything, and a failing seed can be told as a story.

| module | duty |
|---|---|
| `world` | true time, the heap of events, chance per concern, the clocks of machines |
| `swarm`, `draw` | what a run is made of; what a seed draws: size, loads, kinds and rates of faults |
| `network` | links: loss, delay, reordering, duplication, cuts, frames held back and delivered late |
| `process`, `performing` | one replica process: turns, pauses, crashes, restarts; appends, syncs, snapshots |
| `kit` | makes whole replicas, over disks that can be struck |
| `loop`, `streams`, `client` | the library's asyncio client on virtual time, its connections, its machine |
| `doors` | the daemon's channels over such connections |
| `plain` | the smallest engine and store: exercise for `coordd.paxos` alone |
| `surgeon` | asks for changes of the membership, loses disks |
| `faults/` | what breaks, one module per concern; the nemesis, which draws and undoes; what stands at the end |
| `work/` | what clients do, one module per concern |
| `checkers/` | what must be true: small classes, told of events, raising `Violation`; `everything` lists them |
| `consensus`, `cell` | the two harnesses: agreement alone, and whole cells with clients |
| `changes` | both with a surgeon |
| `planted/` | known bugs, each a patch applied by the test |
"""
