"""``python -m rsam_ref`` is ``rsam-ref``; both begin here, where Ctrl-C is met from the start."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """The command, and its end by Ctrl-C while it is loaded."""
    try:
        from rsam_ref.commands.main import main as run

        run()
    except KeyboardInterrupt:
        print("rsam-ref: stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is left to lose


if __name__ == "__main__":
    main()
