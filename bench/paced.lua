-- The browser of headers.lua with pauses between its requests: BENCH_PAUSE milliseconds on average, none for 0.
dofile("headers.lua")

local pause = tonumber(os.getenv("BENCH_PAUSE"))
if pause > 0 then
  function delay()
    return math.random(0, 2 * pause)
  end
end
