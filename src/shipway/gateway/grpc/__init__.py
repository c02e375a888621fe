"""The gateway's gRPC door: HTTP/2 of its own, Open Inference v2 and health over it. See decision 0007."""
