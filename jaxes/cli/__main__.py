"""`python -m jaxes.cli`."""

import sys

from jaxes.cli.main import main

sys.exit(main())
