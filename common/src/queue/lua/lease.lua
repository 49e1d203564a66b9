-- purpose: reclaim, promote, and give a worker as many tasks as it has free slots
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the worker's id
-- ARGV[2]: the number of its request, raised only after an answer that gave tasks
-- ARGV[3]: its free slots; 0 takes it off the list of idle workers
-- ARGV[4]: the spec's digest as the worker knows it: under the same id, a run may have been removed and another one pushed
-- returns: {'granted', now, {id, lease, input, former, queued_at, failures}...}; {'nothing', now, why, wait_ms} where why is paused, cap,
--          empty, drained or none_asked; {'stale', now, request} if this request was answered and nothing of it is held;
--          {'differs', digest}; {'gone'}
-- transitions: leased -> pending (reclaim), leased -> dead (reclaim), delayed -> pending (promote), pending -> leased

local BOUND = 100
local SETTLE_MS = 5000

local worker, request, slots = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local lease_ms, clock, pushed_at, lapses_max, paused, parallelism, sealed, digest =
  tick('pushed_at', 'lapses_max', 'paused', 'parallelism', 'sealed', 'digest')
if not lease_ms then
  return { 'gone' }
end
if digest ~= ARGV[4] then
  return { 'differs', digest }
end
local longest_wait = math.max(1, math.min(SETTLE_MS, math.floor(lease_ms / 12)))

local function grant(ids)
  local reply = { 'granted', now }
  for _, id in ipairs(ids) do
    local task = redis.call('HMGET', task_key(id), 'lease', 'former', 'queued_at', 'failures')
    local input = redis.call('HGET', key('inputs'), id)
    reply[#reply + 1] = { id, task[1], input or '', task[2] or '', task[3] or pushed_at, task[4] or '0' }
  end
  return reply
end

local function nothing(why, wait_ms)
  if slots > 0 then
    redis.call('ZADD', key('idle'), slots, worker)
  else
    redis.call('ZREM', key('idle'), worker)
  end
  return { 'nothing', now, why, math.max(1, math.min(wait_ms, longest_wait)) }
end

-- The same request again: its answer was lost. What it gave is given again, and nothing new.
local last = redis.call('HGET', key('grants'), worker)
if last then
  local answered = tonumber(string.match(last, '^%d+'))
  local held = {}
  if answered == request then
    local ending = '.' .. worker .. '.' .. ARGV[2]
    for id in string.gmatch(string.match(last, ' .*$') or '', '%d+') do
      local state, lease = state_and_lease(id)
      if state == 'leased' and string.sub(lease, -#ending) == ending then
        redis.call('ZADD', key('leases'), clock + lease_ms, id)
        held[#held + 1] = id
      end
    end
  end
  if #held > 0 then
    return grant(held)
  elseif answered >= request then
    return { 'stale', now, answered }
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('leases'), '-inf', clock, 'LIMIT', 0, BOUND)) do
  local _, lease = state_and_lease(id)
  redis.call('HSET', task_key(id), 'ending', 'lapsed')
  if count(id, 'lapses') >= tonumber(lapses_max) then
    redis.call('HSET', task_key(id), 'reason', 'lapses')
    move(id, 'leased', 'dead')
  else
    move(id, 'leased', 'pending', 'head')
  end
  event('reclaim', id, 'lease', lease)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('delayed'), '-inf', now, 'LIMIT', 0, BOUND)) do
  move(id, 'delayed', 'pending', 'tail')
  event('promote', id)
end

if slots == 0 then
  return nothing('none_asked', longest_wait)
end
if paused then
  return nothing('paused', longest_wait)
end
parallelism = tonumber(parallelism)
if parallelism > 0 then
  slots = math.min(slots, parallelism - redis.call('ZCARD', key('leases')))
  if slots <= 0 then
    slots = tonumber(ARGV[3])
    return nothing('cap', longest_wait)
  end
end

local ids = redis.call('LPOP', key('pending'), slots)
if not ids then
  local open = redis.call('HMGET', key('progress'), 'waiting', 'delayed', 'leased')
  slots = tonumber(ARGV[3])
  if sealed and tonumber(open[1]) + tonumber(open[2]) + tonumber(open[3]) == 0 then
    local settled = (tonumber(redis.call('HGET', KEYS[1], 'last_terminal_at')) or 0) + SETTLE_MS
    if now > settled then
      return nothing('drained', longest_wait)
    end
    return nothing('empty', settled - now + 1)
  end
  if tonumber(open[2]) == 0 then
    return nothing('empty', longest_wait)
  end
  return nothing('empty', tonumber(redis.call('ZRANGE', key('delayed'), 0, 0, 'WITHSCORES')[2]) - now)
end

for _, id in ipairs(ids) do
  local task = redis.call('HMGET', task_key(id), 'lease', 'former', 'ending')
  local number = 1
  if task[1] then
    number = tonumber(string.match(task[1], '^%d+')) + 1
    local former = task[1] .. ':' .. (task[3] or 'cancelled')
    redis.call('HSET', task_key(id), 'former', task[2] and task[2] .. ' ' .. former or former)
    redis.call('HDEL', task_key(id), 'ending')
  end
  local lease = number .. '.' .. worker .. '.' .. ARGV[2]
  redis.call('HSET', task_key(id), 'lease', lease, 'worker', worker)
  move(id, 'pending', 'leased', clock + lease_ms, true)
  event('lease', id, 'lease', lease)
end
redis.call('HSET', key('grants'), worker, ARGV[2] .. ' ' .. table.concat(ids, ' '))
if #ids < tonumber(ARGV[3]) then
  redis.call('ZADD', key('idle'), tonumber(ARGV[3]) - #ids, worker)
else
  redis.call('ZREM', key('idle'), worker)
end
return grant(ids)
