"""python -m harness.tracking sync, or reap."""

import sys

from harness import cli
from harness.tracking import reap, sync

COMMANDS = {"sync": sync, "reap": reap}

if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
    sys.exit(f"usage: python -m harness.tracking {{{','.join(COMMANDS)}}} [--help]")
cli.main(COMMANDS[sys.argv.pop(1)])
