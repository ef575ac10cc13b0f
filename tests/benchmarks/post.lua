-- wrk: POST the file $BODY_FILE as $CONTENT_TYPE; the figures as one line of JSON.
local file = assert(io.open(os.getenv("BODY_FILE"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = os.getenv("CONTENT_TYPE")

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nJSON {"seconds":%.4f,"answers":%d,"refused":%d,"lost":%d,"p50_ms":%.3f,"p99_ms":%.3f}\n',
    summary.duration / 1e6, summary.requests, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
