-- SPDX-License-Identifier: MIT
--
-- The requests of one case for wrk, and its report as one JSON line.
-- wrk ... -s web_load.lua URL -- KIND BYTES DEPTH
--   KIND   get, or post: BYTES with a content-length, or chunked: BYTES in chunks of 8 KiB
--   DEPTH  requests that are sent at once (pipelining); latency is then that of DEPTH answers
--
-- wrk makes a request once and sends it again and again, as long as no function `request` is defined: Lua costs nothing per request.

local chunk_bytes = 8 * 1024

local function random_bytes(count)
  local bytes = {}
  for i = 1, count do bytes[i] = string.char(math.random(0, 255)) end
  return table.concat(bytes)
end

local function chunked(body)
  local chunks = {}
  for start = 1, #body, chunk_bytes do
    local chunk = body:sub(start, start + chunk_bytes - 1)
    chunks[#chunks + 1] = string.format("%x\r\n%s\r\n", #chunk, chunk)
  end
  return table.concat(chunks) .. "0\r\n\r\n"
end

function init(arguments)
  local kind, bytes, depth = arguments[1], tonumber(arguments[2]), tonumber(arguments[3])
  local format = wrk.format
  if kind ~= "get" then wrk.method = "POST" end
  if kind == "post" then wrk.body = random_bytes(bytes) end
  local tail = ""
  if kind == "chunked" then
    wrk.headers["Transfer-Encoding"] = "chunked"
    tail = chunked(random_bytes(bytes))
  end
  wrk.format = function(...) return string.rep(format(...) .. tail, depth) end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.stdout:write(string.format(
    '\n{"requests": %d, "bytes": %d, "seconds": %.6f, "p50": %.3f, "p95": %.3f, "p99": %.3f, "p99.9": %.3f,' ..
      ' "errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
    summary.requests, summary.bytes, summary.duration / 1e6, latency:percentile(50), latency:percentile(95), latency:percentile(99), latency:percentile(99.9),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
