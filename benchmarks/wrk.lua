-- Used by `load`: sends the requests in a list in turn, counts answers that are not 200, and prints one line of JSON.
-- Each line of the list (first argument) has the path, content type and body file, separated by tabs.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  requests, place, statuses = {}, 0, {}
  for line in io.lines(args[1]) do
    local path, content_type, name = line:match("^([^\t]+)\t([^\t]+)\t([^\t]+)$")
    local file = assert(io.open(name, "rb"))
    local headers = { ["Content-Type"] = content_type }
    table.insert(requests, wrk.format("POST", path, headers, file:read("*a")))
    file:close()
  end
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function response(status)
  if status ~= 200 then
    local key = "status " .. status
    statuses[key] = (statuses[key] or 0) + 1
  end
end

function done(summary, latency)
  local errors = {}
  for _, thread in ipairs(threads) do
    for key, count in pairs(thread:get("statuses")) do
      errors[key] = (errors[key] or 0) + count
    end
  end
  for _, kind in ipairs({ "connect", "read", "write", "timeout" }) do
    if summary.errors[kind] > 0 then errors[kind] = summary.errors[kind] end
  end
  local parts = {}
  for key, count in pairs(errors) do table.insert(parts, string.format('"%s": %d', key, count)) end
  io.write(string.format(
    '\nRESULT {"seconds": %.6f, "requests": %d, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f, "errors": {%s}}\n',
    summary.duration / 1e6, summary.requests, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    latency.max / 1000, table.concat(parts, ", ")))
end
