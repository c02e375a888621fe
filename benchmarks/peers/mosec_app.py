"""mosec: its Rust front end and two workers; with BENCH_BATCHING, batches."""

import numpy as np
from loaded import BATCH_ROWS, is_batching, load
from mosec import Server, Worker


class Single(Worker):
    def __init__(self):
        super().__init__()
        self.model = load()

    def forward(self, data):
        rows = np.asarray(data["inputs"], dtype=np.float32)
        return {"outputs": self.model(rows).tolist()}


class Batched(Single):
    def forward(self, data):
        rows = np.asarray([item["inputs"][0] for item in data], dtype=np.float32)
        return [{"outputs": [output]} for output in self.model(rows).tolist()]


if __name__ == "__main__":
    server = Server()
    if is_batching():
        server.append_worker(Batched, num=2, max_batch_size=BATCH_ROWS, max_wait_time=2)
    else:
        server.append_worker(Single, num=2)
    server.run()
