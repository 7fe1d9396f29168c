"""What a replica keeps on disk: a log of segments and a snapshot, in one locked directory. The door is `store.Store`.

| module | duty |
|---|---|
| `disk` | every call of the operating system, as a protocol, and the real thing |
| `checked` | named errors and fail-stop over a disk |
| `record`, `segment`, `snapshots`, `identity` | the byte layouts, each described where it is made |
| `recovery` | reads the log at start: tail or damage? |
| `spare`, `wal` | the next segment, prepared in time; append, sync, roll, cut |
| `store` | all of it together: open, recover, refuse |
| `errors` | what is refused, by name |

Knows records of `paxos` and opaque bytes; knows nothing of commands, time or peers.
"""
