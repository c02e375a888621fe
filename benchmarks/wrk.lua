-- POSTs the file in $BENCH_BODY and prints one line of JSON.
wrk.method = "POST"
local file = io.open(os.getenv("BENCH_BODY"), "rb")
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = "application/json"
local proof = os.getenv("BENCH_PROOF")
if proof and proof ~= "" then wrk.headers["Authorization"] = proof end
done = function(summary, latency, _)
  local errors = summary.errors
  io.write(string.format('\nJSON {"rps":%.1f,"p50_ms":%.4f,"p99_ms":%.4f,"requests":%d,"failures":%d}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    summary.requests, errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
