-- Sends a list of signed requests round-robin and prints the results as JSON.
local paths, method, body = {}, os.getenv("WRK_METHOD"), nil
for line in io.lines(os.getenv("WRK_PATHS")) do table.insert(paths, line) end
if method == "PUT" then body = string.rep("x", tonumber(os.getenv("WRK_BYTES"))) end

local next_path = 0
wrong = 0 -- Global, because `done` reads it from each thread.
local threads = {}

function setup(thread) table.insert(threads, thread) end

function request()
  next_path = next_path % #paths + 1
  return wrk.format(method, paths[next_path], nil, body)
end

function response(status, headers, content)
  if status ~= 200 or (method == "GET" and #content ~= tonumber(os.getenv("WRK_BYTES"))) then wrong = wrong + 1 end
end

function done(summary, latency, requests)
  local bad = 0
  for _, thread in ipairs(threads) do bad = bad + thread:get("wrong") end
  local errors = summary.errors
  bad = bad + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format('{"requests": %d, "us": %d, "wrong": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration, bad, latency:percentile(50), latency:percentile(99)))
end
