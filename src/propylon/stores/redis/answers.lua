-- Keep records of answers, and count deletions. What is read is read by ordinary commands.
--
-- ARGV[1] = 'put': KEYS[1] is a hash of variants. ARGV: variant, record, seconds to live, most variants.
-- ARGV[1] = 'delete': KEYS: the number of the last deletion, the log, the mark. ARGV: the deletion as a message, microseconds
--   since 1970, seconds to live, most lines of the log. Returns the number of the deletion.
--
-- The number of a deletion is a time at least, so it does not begin anew when this server has lost what it knew.

if ARGV[1] == 'put' then
    if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
        redis.call('DEL', KEYS[1])
    end
    if redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0
        and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then
        redis.call('DEL', KEYS[1])
    end
    redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
    if redis.call('TTL', KEYS[1]) < tonumber(ARGV[4]) then
        redis.call('EXPIRE', KEYS[1], ARGV[4])
    end
    return 1
end

local last = tonumber(redis.call('GET', KEYS[1])) or 0
local number = string.format('%.0f', math.max(last + 1, tonumber(ARGV[3])))
redis.call('SET', KEYS[1], number)
redis.call('SET', KEYS[3], number, 'EX', ARGV[4])
redis.call('ZADD', KEYS[2], number, number .. ' ' .. ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return tonumber(number)
