"""One replica as a whole, without the world around it: paxos, the machine, and what only a master keeps. Pure.

Read `engine` (the step), `inputs` and `effects` (the door), `mastership` (clients, and what is decided by time), then
`pending`, `reads`, `lessor`, `doors`. It must not know of disks, sockets, clocks or tasks: that is the driver's.
"""
