-- Decide and charge many requests at once, with the arithmetic of proxy/limit/arithmetic.py.
--
-- KEYS: one for each spend, in order.
-- ARGV[1]: JSON. [[rule, ...], [number, ...]]
--   rule: [0, enforced, scale, unit, capacity, deepest] of a bucket, [1, enforced, grain, period, amount] of a window
--   numbers, for each request: its kind, how many spends it has, and of each spend the index of its rule, then
--     kind 0, decide: cost. Nothing is spent if an enforced rule lacks something.
--     kind 1, charge: cost; spent whatever is left; a negative one gives back.
--     kind 2, carry over what was spent without this server: own, seed, age. A bucket owes `own` ticks more than the
--       larger of what it owes and `seed`; a window has spent `own` units more, `age` microseconds ago.
-- Returns: the time in microseconds; then for each spend of kind 0 what is owed or spent after it, as n if it was
--   spent and as -n-1 if not; of a window also its newest moment, and the moment that a refused request waits for.
--
-- The time is this server's, so the gateways' clocks need not agree. Numbers stay below 2^53, which Lua has exactly: a
-- bucket is kept as the microsecond at which it is full again, and the ticks beyond it.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local sent = cjson.decode(ARGV[1])
local rules, numbers = sent[1], sent[2]
local held, changed, told = {}, {}, {now}
local floor, min, max, format = math.floor, math.min, math.max, string.format

-- What is under a key; nothing, if it is of another type or what no gateway wrote.
local function read(key)
    local value = redis.pcall('GET', key)
    return type(value) == 'string' and value or nil
end

-- Keep a value until nothing of it is spent any more.
local function write(key, value, ms)
    redis.call('SET', key, value, 'PX', ms)
end

local function change(state)
    if not state.changed then
        state.changed = true
        changed[#changed + 1] = state
    end
end

local function bucket(rule, key)
    local state = {key = key, rule = rule, debt = 0}
    local value = read(key)
    local full, ticks = tonumber(value), 0
    if value and not full then
        full, ticks = value:match('^(%d+):(%d+)$')
    end
    if full then
        local debt = (full - now) * rule[3] + ticks
        state.debt = min(max(debt, 0), rule[6])
        if debt > rule[6] then change(state) end -- the clock was set back
    end
    return state
end

local function total(log)
    local units = 0
    for at = 2, #log, 2 do units = units + log[at] end
    return units
end

-- The log is flat: moment, units, moment, units, ...
local function window(rule, key)
    local state = {key = key, rule = rule, log = {}}
    local value = read(key)
    local good, kept = pcall(cmsgpack.unpack, value or '\144')
    if not good or type(kept) ~= 'table' then kept = {} end
    local grain, period, moment, ahead = rule[3], rule[4], floor(now / rule[3]), 0
    for at = 1, #kept, 2 do
        if kept[at] >= moment then
            ahead = ahead + kept[at + 1]
        elseif (kept[at] + 1) * grain + period > now then
            state.log[#state.log + 1] = kept[at]
            state.log[#state.log + 1] = kept[at + 1]
        end
    end
    if ahead > 0 then
        state.log[#state.log + 1] = moment
        state.log[#state.log + 1] = ahead
    end
    if #kept > 0 and kept[#kept - 1] > moment then change(state) end -- the clock was set back
    return state
end

local function look(rule, key)
    local state = held[key]
    if not state then
        state = rule[1] == 0 and bucket(rule, key) or window(rule, key)
        held[key] = state
    end
    return state
end

local function lacking(state, cost)
    if state.debt then
        return state.debt + max(cost, 1) * state.rule[4] - state.rule[5]
    end
    return total(state.log) + max(cost, 1) - state.rule[5]
end

local function give_back(log, units)
    while #log > 0 and units >= log[#log] do
        units = units - table.remove(log)
        table.remove(log)
    end
    if #log > 0 then log[#log] = log[#log] - units end
end

-- Note units at a moment of the past, in order.
local function insert(log, moment, units)
    local at = #log - 1
    while at > 0 and log[at] > moment do at = at - 2 end
    if at > 0 and log[at] == moment then
        log[at + 1] = log[at + 1] + units
    else
        table.insert(log, at + 2, units)
        table.insert(log, at + 2, moment)
    end
end

local function pay(state, cost)
    local rule = state.rule
    if cost == 0 then return end
    change(state)
    if state.debt then
        state.debt = min(max(state.debt + cost * rule[4], 0), rule[6])
    elseif cost > 0 then
        insert(state.log, floor(now / rule[3]), cost)
    else
        give_back(state.log, -cost)
    end
end

local function carry(state, own, seed, age)
    local rule = state.rule
    change(state)
    if state.debt then
        state.debt = min(max(state.debt, seed) + own, rule[6])
    else
        insert(state.log, floor((now - age) / rule[3]), own)
    end
end

-- Tell a window: what is spent, its newest moment, and the moment with which enough units leave.
local function tell_window(state, paid, lack)
    local log, wait, units = state.log, -1, total(state.log)
    told[#told + 1] = paid and units or -units - 1
    told[#told + 1] = log[#log - 1] or -1
    for at = 1, #log, 2 do
        lack = lack - log[at + 1]
        if lack <= 0 then
            wait = log[at]
            break
        end
    end
    told[#told + 1] = wait
end

local at, key = 1, 1
while at <= #numbers do
    local kind, count = numbers[at], numbers[at + 1]
    at = at + 2
    if kind == 0 then
        local lacks, refused = {}, false
        for spend = 0, count - 1 do
            local rule = rules[numbers[at + 2 * spend]]
            lacks[spend] = lacking(look(rule, KEYS[key + spend]), numbers[at + 2 * spend + 1])
            refused = refused or (lacks[spend] > 0 and rule[2] == 1)
        end
        for spend = 0, count - 1 do
            local state = held[KEYS[key + spend]]
            local paid = not refused and lacks[spend] <= 0
            if paid then pay(state, numbers[at + 2 * spend + 1]) end
            if state.debt then
                told[#told + 1] = paid and state.debt or -state.debt - 1
            else
                tell_window(state, paid, lacks[spend])
            end
        end
        at = at + 2 * count
    elseif kind == 1 then
        for spend = 0, count - 1 do
            pay(look(rules[numbers[at + 2 * spend]], KEYS[key + spend]), numbers[at + 2 * spend + 1])
        end
        at = at + 2 * count
    else
        for spend = 0, count - 1 do
            local first = at + 4 * spend
            local state = look(rules[numbers[first]], KEYS[key + spend])
            carry(state, numbers[first + 1], numbers[first + 2], numbers[first + 3])
        end
        at = at + 4 * count
    end
    key = key + count
end

-- Written last and together: where writing is refused (-OOM, -READONLY), nothing was.
for _, state in ipairs(changed) do
    local rule, log = state.rule, state.log
    if state.debt == 0 or (log and #log == 0) then
        redis.call('DEL', state.key)
    elseif log then
        local gone = (log[#log - 1] + 1) * rule[3] + rule[4] - now
        write(state.key, cmsgpack.pack(log), max(1, floor(gone / 1000) + 1))
    else
        local ticks = state.debt % rule[3]
        local micro = (state.debt - ticks) / rule[3]
        local value = format('%.0f', now + micro)
        if ticks > 0 then value = value .. format(':%.0f', ticks) end
        write(state.key, value, floor(micro / 1000) + 1)
    end
end
return told
