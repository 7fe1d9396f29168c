"""What is claimed about speed, measured: `./dev bench`.

One client process with one thread drives a three-replica cell of real daemons on this machine, fsync on, through the
client library that applications use; so servers and client share the machine's cores. Closed loop: N workers, each
begins its next operation when the last one was answered; a second of warm-up is not counted. Latency is what the caller
sees. `server us/op` is the CPU time of all three daemons over the operations counted, `client us/op` that of this
process.

* W1, uncontended lock cycles: each worker acquires and releases its own lock. One cycle is one operation, its latency
  that of the acquire.
* W3, writes: each worker its own file of 100 bytes.
* W4, linearizable reads of one file of 100 bytes.
* W6, a write of a file of 100 bytes that N watchers are told of: from just before the write until the callback of the
  last watcher, over 50 rounds; CPU time is that of one watcher.
* W7, fail-over: from kill -9 of the master until the first write that also began after the kill is acknowledged; two
  locks must be kept.
* W9, an idle cell.
* W10, reads from the consistent cache by one thread, or by one task: no network. How fast they are on a core of their
  own is said by the reads in a second of CPU.
* W11, a write of a file of 100 bytes that N clients have cached: its latency is that of all invalidations and
  acknowledgements as well. Writer and readers are tasks of this one thread.

W1, W3, W4 and W6 have two forms: *tasks* (one client, one session, one connection, N tasks) and *sessions* (N clients,
each with its own).

`--beside` measures W4 and W6 with etcd and ZooKeeper too, in the same run and on the same cores, one system after the
other (`others`, which says with which settings), and with coordd once more: each with a client that does the least that
is needed (`bare_clients`). One client (tasks) is connected to the leader, many (sessions) to the three nodes in turn,
coordd's to the master. A read of ZooKeeper is a `sync` with a read behind it, which is nearest to linearizable, or one
that may be stale. All watches of one session of ZooKeeper on a node are one, so W6 has no tasks there.
"""
