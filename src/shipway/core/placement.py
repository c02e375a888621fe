"""Where a version runs: in the gateways, or in processes of its own. And why, in words."""

from __future__ import annotations

import msgspec

from shipway.core.bundles import Manifest, Served
from shipway.core.endpoints import Placement
from shipway.core.errors import InvalidSpec

LARGEST_INLINE_BYTES = 64 * 1024 * 1024
"""A larger ONNX model runs in its own process: every gateway would hold a copy."""

SLOWEST_INLINE_MS = 0.08
"""A slower ONNX model runs in its own process: its calls would be most of what a gateway does, one
after the other and in the way of every other caller; beside it they take another core, in batches."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version runs, and the fact that decided it."""

    inline: bool
    reason: str


def placed(placement: Placement, manifest: Manifest, *, releases_memory: bool = False) -> Place:
    """Where a version runs for this `placement`.

    `releases_memory`: the server has a memory budget, and memory comes back only from a process.

    Raises:
        InvalidSpec: `inline` is wanted for a bundle that is served by its original code.
    """
    is_data = manifest.content.served is Served.ONNX
    if placement is Placement.INLINE and not is_data:
        raise InvalidSpec(
            f"A `{manifest.content.format}` model served by its original code cannot run `inline`: "
            "only pure data formats (ONNX) may.",
            next_step="Leave `placement` at `auto`, or set `process`.",
        )
    if placement is not Placement.AUTO:
        is_inline = placement is Placement.INLINE
        return Place(inline=is_inline, reason=f"the spec says `{placement.value}`")
    if not is_data:
        return Place(inline=False, reason="it is served by its original code, which runs isolated")
    if releases_memory:
        return Place(
            inline=False, reason="the server has a memory budget, kept by ending processes"
        )
    return _by_cost(manifest)


def _by_cost(manifest: Manifest) -> Place:
    size_bytes = _onnx_bytes(manifest)
    if size_bytes > LARGEST_INLINE_BYTES:
        return Place(
            inline=False,
            reason=f"its ONNX form has {size_bytes:,} bytes, over {LARGEST_INLINE_BYTES:,}:"
            " every gateway would hold a copy",
        )
    parity = manifest.provenance.parity
    row_ms = parity.onnx_ms if parity is not None else None
    if row_ms is None:
        return Place(inline=True, reason=f"ONNX of {size_bytes:,} bytes, its time not measured")
    if row_ms > SLOWEST_INLINE_MS:
        return Place(
            inline=False,
            reason=f"a row took {row_ms:.3g} ms when packaged, over {SLOWEST_INLINE_MS:g} ms:"
            " batching in a process of its own saves more than the hop costs",
        )
    return Place(
        inline=True,
        reason=f"ONNX of {size_bytes:,} bytes, {row_ms:.3g} ms a row when packaged: less than the"
        " hop to a process would cost",
    )


def _onnx_bytes(manifest: Manifest) -> int:
    """The size of the ONNX form with the files beside it, which may hold its weights."""
    form = manifest.content.onnx
    if form is None:
        return 0
    directory = form.path.rpartition("/")[0] + "/"
    return sum(f.size_bytes for f in manifest.content.files if f.path.startswith(directory))
