"""coordctl: the command line of coordd.

| module | duty |
|---|---|
| `main` | the root command: global options, the one place that turns failures into a line and an exit code |
| `settings` | the global options as data; opens clients |
| `files`, `locks`, `sessions`, `cell` | one module per group of commands |
| `output` | data on stdout: tables, tabs, JSON; times and durations as text |
| `errors` | exit codes, and the words of each failure |
| `runner` | `lock PATH -- CMD`: makes the two processes |
| `keeper` | the process that holds the session and the lock |
| `front` | the process that is the parent of the command and kills it in time |
| `command`, `terminal`, `family` | what they need: starting the command, job control, descendants |
| `order`, `pipes` | what they share: the request and its times, the messages between them |

coordctl imports `coordclient` only, and only where a command needs it: the front of `lock` never loads it.
"""
