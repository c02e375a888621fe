"""LitServe: one API process, two inference workers; with BENCH_BATCHING, batches."""

import sys

import litserve
import numpy as np
from loaded import BATCH_ROWS, is_batching, load


class Service(litserve.LitAPI):
    def setup(self, device):
        self.model = load()

    def decode_request(self, request):
        return np.asarray(request["inputs"], dtype=np.float32)

    def batch(self, inputs):
        return np.concatenate(inputs)

    def predict(self, rows):
        return self.model(rows)

    def unbatch(self, output):
        return [output[at : at + 1] for at in range(len(output))]

    def encode_response(self, output):
        return {"outputs": output.tolist()}


if __name__ == "__main__":
    service = (
        Service(max_batch_size=BATCH_ROWS, batch_timeout=0.002) if is_batching() else Service()
    )
    server = litserve.LitServer(service, accelerator="cpu", workers_per_device=2)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
