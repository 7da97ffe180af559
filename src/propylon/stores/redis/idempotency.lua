-- Put a value in place of a claim, or remove the claim.
--
-- KEYS[1]: the key. ARGV: the claim; the value, empty: it is removed; milliseconds to live.
-- ARGV[1] empty: claim the key with the value where there is none. Returns 1, or else what is there.

local held = redis.call('GET', KEYS[1])
if ARGV[1] == '' then
    if held then
        return held
    end
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    return 1
end
if not held or held == ARGV[1] then
    if ARGV[2] == '' then
        redis.call('DEL', KEYS[1])
    else
        redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    end
end
return 1
