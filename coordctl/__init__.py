"""coordctl: the command line of coordd.

| module | duty |
|---|---|
| `main` | the root command: global options, the one place that turns failures into a line and an exit code |
| `settings`, `contexts` | the global options as data, and named sets of them; opens clients |
| `files`, `locks`, `why`, `sessions`, `cell`, `members` | one module per group of commands |
| `txn`; `transactions`, `words` | several changes at once; the text that says them, pure |
| `history`, `watch`; `events` | what has changed, what changes; a change as a row and as JSON |
| `follow`, `runs` | reading a watch while something else goes on, and the command that it runs |
| `lock` | the commands that hold locks: lock, elect; `observe`: who leads |
| `local`, `explain`, `completion` | what concerns this program and no cell |
| `output`, `refresh` | data on stdout in every form, once or again and again; times and durations as text |
| `errors`, `reasons` | exit codes and the words of each failure; the reason of an operator |
| `runner` | `lock PATH... -- CMD`: makes the two processes |
| `keeper`, `claims` | the process that holds the session, and the locks that it holds |
| `front` | the process that is the parent of the command and kills it in time |
| `command`, `terminal`, `family` | what they need: starting the command, job control, descendants |
| `separated` | command lines with another command behind `--` |
| `order`, `pipes` | what they share: the request and its times, the messages between them |

coordctl imports `coordclient` only, and only where a command needs it: the front of `lock` never loads it.
"""
