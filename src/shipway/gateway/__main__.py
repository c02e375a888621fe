"""`python -m shipway.gateway`."""

import sys

from shipway.gateway.main import main

sys.exit(main())
