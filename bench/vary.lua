-- The same browser, but 512 different requests over all ten routes: nothing can profit from having seen one before.
-- They are written out before the measurement; per request there is one table look-up.
dofile("headers.lua")

local SERVICES = { "users", "products", "carts", "payments", "orders",
                   "invoices", "shipments", "reviews", "search", "messages" }
local requests, turn = {}, 0

function init(args)
  math.randomseed(7)
  for i = 1, 512 do
    local service = SERVICES[i % #SERVICES + 1]
    wrk.headers["Cookie"] = string.format("session=%08x%08x%08x; theme=dark; consent=1",
      math.random(0, 2 ^ 31), math.random(0, 2 ^ 31), math.random(0, 2 ^ 31))
    wrk.headers["Referer"] = string.format("https://shop.example.com/%s?page=%d&sort=-created", service, i)
    requests[i] = wrk.format("GET", string.format("/api/v1/%s/%d?expand=lines&page=%d", service, 1000 + i, i))
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
