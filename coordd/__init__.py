"""coordd: a lock and coordination service in the manner of Chubby, agreed by Multi-Paxos, written in Python.

Glossary (the papers' words, one per idea)
  cell         the 1 to 7 replicas that serve one namespace together; a majority of them decides
  replica      one daemon with its own disk; `start` counts its starts, durably
  ballot       (round, replica): orders proposals; `promise` and `accept` are an acceptor's answers to it
  slot         one place in the log; its value is a batch of commands, a no-op, or the entry that begins an epoch
  chosen       accepted by a majority in one ballot: final; `chosen_upto` is the chosen prefix without holes
  master       the replica that proposes; its mastership is an `epoch`; only inside its master lease it serves reads
  session      what a client holds by KeepAlives; its `lease` ends at the client first, then at the master
  jeopardy     the client's own lease is over and no answer has come: nothing is believed, for a `grace` period
  lock         exclusive or shared, on any node; a `hold` is one grant, a waiter stands in a FIFO queue in the state
  token        the cell's revision at the grant: a later holder's is larger; a `sequencer` is the token with a seal
  lock-delay   how long a lock whose holder expired stays closed to others
  revision     one number for the cell, raised by every command that changes something
  change       one node made, written or removed; the state keeps the last ones, `history` shows them
  watch        who is told of changes at a place, from a revision on; a `mark` says that none was missed, a `resync`
               tells what there is where the changes are not kept any more

Layers (who may import whom is a table in tests/unit/test_imports.py)
  paxos        PURE  agrees on opaque bytes, and on who is master until when
  machine      PURE  the replicated state: tree, sessions, locks, reply cache
  engine       PURE  one replica = paxos + machine + what only a master keeps (deadlines, open calls, watches, caches)
  storage      the log and the snapshots on a disk
  transport    links between replicas
  node         the driver: the one task that touches the engine; clock; who waits for which answer
  api          the doors for clients: POST, channels, event streams, health
  daemon       builds all of it, starts and stops it

The life of one write
  client -> api: shape checked -> driver's inbox -> Engine.step: queued, batched, proposed for the next slot ->
  Accept to the peers at once, own log written and synced meanwhile -> a majority's Accepted (the own vote only after
  the own sync) -> chosen -> machine.apply on every replica -> the master answers all calls of the batch.
"""
