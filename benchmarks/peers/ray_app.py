"""Ray Serve: two replicas, access log off; with BENCH_BATCHING, `serve.batch`."""

import sys

import numpy as np
import ray
from loaded import BATCH_ROWS, is_batching, load
from ray import serve


@serve.deployment(
    num_replicas=2,
    max_ongoing_requests=128 if is_batching() else 32,
    logging_config={"enable_access_log": False},
)
class Service:
    def __init__(self):
        self.model = load()

    @serve.batch(max_batch_size=BATCH_ROWS, batch_wait_timeout_s=0.002)
    async def together(self, inputs):
        output = self.model(np.concatenate(inputs))
        return [output[at : at + 1] for at in range(len(inputs))]

    async def __call__(self, request):
        rows = np.asarray((await request.json())["inputs"], dtype=np.float32)
        output = (await self.together(rows)) if is_batching() else self.model(rows)
        return {"outputs": output.tolist()}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Service.bind(), blocking=True)
