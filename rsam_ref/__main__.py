"""``python -m rsam_ref`` is ``rsam-ref``."""

from rsam_ref.commands.main import main

main()
