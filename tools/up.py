"""a development cell of three replicas in the foreground, on 127.0.0.1:7420 to 7422 (flags: those of coordd --dev)"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Become `coordd --dev --replicas 3`; flags given here come later and so win."""
    os.execv(sys.executable, [sys.executable, "-m", "coordd", "--dev", "--replicas", "3", *sys.argv[1:]])


if __name__ == "__main__":
    main()
