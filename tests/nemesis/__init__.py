"""Real processes under fire: daemons behind fault-injecting proxies, clients that write down what they see, and checks.

| module | duty |
|---|---|
| `schedule` | PURE: which fault comes when, from a seed |
| `faults`, `faults_network`, `faults_members`, `faults_clients` | how each kind is done and undone |
| `world` | the daemons, the clients, everything between them |
| `proxy`, `dialers` | links that are late, shut, torn; who dialled |
| `shim`, `mounts` | slow and failing syncs, wall clocks that jump; a disk that can be filled |
| `worker`, `work` | a client process and the kinds of its work (`work_...`) |
| `readers` | reads by POST that wait for whatever answer comes |
| `record` | the protected side that looks at tokens |
| `history` | what the clients did and believed, in files |
| `ending` | after the faults: service for all, agreement, everything there |
| `checks/` | promises against histories |
| `run`, `report` | one run and what is said of it |

A new kind of fault: a row in `schedule.KINDS` and a function in `faults`. A new promise: a check in `checks`.
"""
