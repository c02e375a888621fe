"""How a model is packaged before it is uploaded: the options, and the call into `shipway.bundles`."""

from __future__ import annotations
