"""Multi-Paxos: agrees on opaque bytes, slot by slot, and on who is master until when. Pure: no I/O, clock or chance.

Read `replica` (the door), `effects` (what goes out), `messages`; then acceptor, learner, election, proposer, lease.
Sources: Lamport, *Paxos Made Simple* [PMS]; Chandra et al., *Paxos Made Live* [PML].
"""
