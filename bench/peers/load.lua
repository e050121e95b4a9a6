-- What wrk says at the end, as one line of JSON: numbers that are not rounded for the eye.
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "failed": %d, "broken": %d, "duration_us": %d, "p50_us": %.0f, "p99_us": %.0f}\n',
        summary.requests,
        errors.connect + errors.write + errors.status + errors.timeout,
        errors.read,
        summary.duration,
        latency:percentile(50),
        latency:percentile(99)
    ))
end
