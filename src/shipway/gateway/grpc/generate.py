"""Makes `messages.binpb` from the `.proto` files beside it. Needs grpcio-tools (the `dev` extra)."""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("open_inference.proto", "health.proto", "rpc.proto")


def descriptors() -> bytes:
    """The serialized FileDescriptorSet of the sources, with what they import."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / "messages.binpb"
        known = files("grpc_tools") / "_proto"
        command = [f"-I{HERE}", f"-I{known}", f"--descriptor_set_out={made}", "--include_imports"]
        if protoc.main(["protoc", *command, *SOURCES]) != 0:
            raise SystemExit(1)
        return made.read_bytes()


if __name__ == "__main__":
    (HERE / "messages.binpb").write_bytes(descriptors())
    sys.exit(0)
