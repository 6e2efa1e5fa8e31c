-- Sends one request repeatedly and prints the results as JSON. Response bodies are verified only if WRK_EXPECTED is set, because
-- that costs more than sending; wrk checks status codes itself.
local file = io.open(os.getenv("WRK_REQUEST"), "r")
wrk.method = "POST"
wrk.headers = {}
for line in file:lines() do
  if line == "" then break end
  local name, value = line:match("^([^:]+): (.*)$")
  wrk.headers[name] = value
end
wrk.body = file:read("*a")
file:close()

expected = os.getenv("WRK_EXPECTED")
wrong = 0 -- Global, because `done` reads it from each thread.
local threads = {}

function setup(thread) table.insert(threads, thread) end

if expected then
  function response(status, headers, body)
    if status ~= 200 or not body:find(expected, 1, true) then wrong = wrong + 1 end
  end
end

function done(summary, latency, requests)
  local bad = 0
  for _, thread in ipairs(threads) do bad = bad + thread:get("wrong") end
  local errors = summary.errors
  bad = bad + errors.connect + errors.read + errors.write + errors.timeout + errors.status
  io.write(string.format('{"requests": %d, "us": %d, "bytes": %d, "wrong": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration, summary.bytes, bad, latency:percentile(50), latency:percentile(99)))
end
