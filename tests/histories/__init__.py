"""Histories: what clients asked and were told, and whether any one-at-a-time order explains it [Herlihy, Wing 1990].

| module | duty |
|---|---|
| `operation` | one operation as its caller saw it |
| `hold` | one hold of a lock, as operations |
| `recorder` | writes operations down while they happen |
| `models/` | what objects do, one operation at a time: registers, locks (one or several), counters, directories |
| `search` | is there an order? [Wing, Gong 1993; Lowe 2017] |
| `explain` | if there is none: the smallest piece around which none exists, in words |
| `check` | a whole history: one search for each object (linearizability is local) |

An operation takes effect at one moment between its beginning and its answer. One without an answer takes effect at any
moment after its beginning, or never. One of which the caller was told that nothing was done is not in the history, so
that nobody may ever see its effect.
"""
