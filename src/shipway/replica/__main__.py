"""Entry point of a replica process, run as a script by any Python that has msgspec and numpy.

The interpreter belongs to the model's environment, where Shipway is not installed. So this file
makes the packages beside it importable as `shipway`, without putting anything else of Shipway's own
environment on the path.
"""

import sys
from pathlib import Path
from types import ModuleType


def _expose_shipway() -> None:
    here = Path(__file__).resolve()
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here.parent]
    if "shipway" not in sys.modules:
        package = ModuleType("shipway")
        package.__path__ = [str(here.parents[1])]
        sys.modules["shipway"] = package


if __name__ == "__main__":
    _expose_shipway()
    from shipway.replica.start import start

    sys.exit(start(sys.argv[1:]))
