"""A control process that takes one message to a webhook and is killed before it can say that it arrived."""

import os
import sys
from pathlib import Path

from shipway.bootstrap.clock import clock
from shipway.control.alerting.courier import Courier
from shipway.control.alerting.sending import Secrets, Sender
from shipway.core.addresses import OutboundPolicy
from shipway.store.sealing import Sealer
from shipway.store.sql.database import Database

POLICY = OutboundPolicy(networks=("127.0.0.0/8",), plain=True)


class PowerCut(Courier):
    """Ends control before the message left, or after."""

    def carry(self, parcel):
        if sys.argv[3] == "after":
            super().carry(parcel)
        os._exit(9)


def main():
    database = Database.open(sys.argv[1])
    Sender(
        database,
        environment="dev",
        secrets=Secrets(Sealer(Path(sys.argv[2])), os.environ),
        policy=POLICY,
        clock=clock,
        carrier=PowerCut(Path(sys.argv[2]) / "commands"),
    ).deliver()


if __name__ == "__main__":
    main()
