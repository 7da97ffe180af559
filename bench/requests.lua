-- What wrk sends: the same request again and again, or several in turn. Each connection keeps its token, as a client
-- does: wrk has one thread for each token, since a script is not told which connection it writes for.
-- BENCH_TOKENS: a file with a token a line. BENCH_VARY: 512 different requests over all ten routes.
-- BENCH_POST: a form of 200 bytes in JSON with each of them.
-- All are written out before the measurement; where there are several, one table look-up a request chooses.
dofile("headers.lua")

local SERVICES = { "users", "products", "carts", "payments", "orders",
                   "invoices", "shipments", "reviews", "search", "messages" }
local DIFFERENT = 512
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

-- Every step-th item from the first on: what falls to one of several threads.
local function mine(first, step, count)
  local numbers = {}
  for i = first, count - 1, step do numbers[#numbers + 1] = i end
  return numbers
end

local function lines(path)
  local found = {}
  if path then
    for line in io.lines(path) do found[#found + 1] = line end
  end
  return found
end

local function authorize(token)
  wrk.headers["Authorization"] = token and "Bearer " .. token
end

-- The session and the page change as well: nothing can profit from having seen the very same head before.
local function different(i)
  local service = SERVICES[i % #SERVICES + 1]
  wrk.headers["Cookie"] = string.format("session=%08x%08x%08x; theme=dark; consent=1",
    math.random(0, 2 ^ 31), math.random(0, 2 ^ 31), math.random(0, 2 ^ 31))
  wrk.headers["Referer"] = string.format("https://shop.example.com/%s?page=%d&sort=-created", service, i)
  return string.format("/api/v1/%s/%d?expand=lines&page=%d", service, 1000 + i, i)
end

local METHOD, BODY = "GET", nil
if os.getenv("BENCH_POST") then
  METHOD, BODY = "POST", '{"lines": [' .. string.rep('{"product": 7, "count": 12}, ', 6) .. '{"product": 8}]}'
  wrk.method, wrk.body = METHOD, BODY
  wrk.headers["Content-Type"] = "application/json"
end

local function write_out(tokens, step)
  local requests = {}
  if os.getenv("BENCH_VARY") then
    for turn, i in ipairs(mine(number, step, DIFFERENT)) do
      local path = different(i)
      authorize(tokens[(turn - 1) % math.max(#tokens, 1) + 1])
      requests[turn] = wrk.format(METHOD, path, nil, BODY)
    end
  else
    for turn, token in ipairs(tokens) do
      authorize(token)
      requests[turn] = wrk.format(METHOD, nil, nil, BODY)
    end
  end
  return requests
end

function init(args)
  local step, all, tokens = tonumber(args[1]), lines(os.getenv("BENCH_TOKENS")), {}
  for turn, i in ipairs(mine(number, step, #all)) do tokens[turn] = all[i + 1] end
  math.randomseed(7 + number)
  local requests = write_out(tokens, step)
  if #requests < 2 then
    return -- what wrk.headers holds now is sent without running Lua for each request
  end
  local turn = 0
  function request()
    turn = turn % #requests + 1
    return requests[turn]
  end
end
