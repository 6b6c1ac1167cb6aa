"""``python -m nflows_woodbury`` is the command line."""

from nflows_woodbury.cli.main import main

raise SystemExit(main())
