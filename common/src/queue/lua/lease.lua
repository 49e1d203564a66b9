-- purpose: reclaim, promote, and give a worker as many tasks as it has free slots
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the worker's id
-- ARGV[2]: the number of its request, raised only after an answer that gave tasks
-- ARGV[3]: its free slots; 0 takes it off the list of idle workers
-- ARGV[4]: the spec's digest as the worker knows it: under the same id, a run may have been removed and another one pushed
-- returns: {'granted', now, {id, lease, input, former, queued_at, failures, checkpoint}...}; {'nothing', now, why, wait_ms} where why is paused, cap,
--          empty, drained, none_asked or damaged; {'stale', now, request} if this request was answered and nothing of it is held;
--          {'differs', digest}; {'gone'}
-- transitions: leased -> pending (reclaim), leased -> dead (reclaim), waiting -> dead (reclaim), delayed -> pending (promote), pending -> leased

local BOUND = 100
local GRANTS_MAX = 1000
local SETTLE_MS = 5000
-- How often all idle workers of a run together ask at most, in calls a second, and how long none of them waits longer than.
local IDLE_CALLS = 300
local IDLE_WAIT_MAX_MS = 45000
-- How many idle workers ask as soon as there may be work, and how soon at most when leases expire.
local EARLY_WORKERS = 64
local EARLY_MS = 250
-- An idle worker stands on the list with the time of its last call, in steps of so many ms. Who did not call for a whole one is gone.
local IDLE_STEP_MS = 300000

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
local progress = call('HMGET', key('progress'), 'waiting', 'pending', 'delayed', 'leased')
counters = { waiting = progress[1], pending = progress[2], delayed = progress[3], leased = progress[4] }

-- How many tasks are in a state now, as far as this script has come.
local function counter(state)
  return counters[state] + (differences[state] or 0)
end

local function grant(ids, inputs)
  local reply = { 'granted', now }
  for i, id in ipairs(ids) do
    local former = field(id, 'former')
    reply[#reply + 1] = { id, field(id, 'lease'), inputs[i] or '', former or '', field(id, 'queued_at') or pushed_at,
      field(id, 'failures') or '0', former and call('HGET', key('checkpoints'), id) or '' }
  end
  return finish(reply)
end

-- When the next lease expires, in ms from now and no sooner than EARLY_MS, however many leases expire.
local function until_expiry()
  local expiry = counter('leased') > 0
    and call('ZRANGEBYSCORE', key('leases'), '(' .. clock, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  return expiry and math.max(EARLY_MS, expiry - clock + 1) or longest_wait
end

local idle_step = now - now % IDLE_STEP_MS

local function is_idle()
  call('ZADD', key('idle'), idle_step, worker)
end

-- Work may turn up `soon_ms` from now. EARLY_WORKERS of the idle workers then ask for it, taken by the moment of their call: those that
-- are gone can't stand before the others. All of a fleet would be a storm.
local function nothing(why, soon_ms)
  local wait_ms = longest_wait
  if slots > 0 then
    is_idle()
    call('ZREMRANGEBYSCORE', key('idle'), '-inf', '(' .. idle_step - IDLE_STEP_MS)
    local idle = call('ZCARD', key('idle'))
    wait_ms = math.max(wait_ms, math.min(IDLE_WAIT_MAX_MS, math.floor(idle * 1000 / IDLE_CALLS)))
    if soon_ms and now % idle < EARLY_WORKERS then
      wait_ms = math.max(1, math.min(longest_wait, soon_ms))
    end
  else
    call('ZREM', key('idle'), worker)
  end
  return finish({ 'nothing', now, why, wait_ms })
end

-- The same request again: its answer was lost. What it gave is given again, and nothing new.
local last = call('HGET', key('grants'), worker)
if last then
  local answered = tonumber(string.match(last, '^%d+') or 0)
  local held = {}
  if answered == request then
    local ending = '.' .. worker .. '.' .. ARGV[2]
    for id in string.gmatch(string.match(last, ' .*$') or '', '%d+') do
      local state, lease = state_and_lease(id)
      if state == 'leased' and lease and string.sub(lease, -#ending) == ending then
        renew(id, clock + lease_ms)
        held[#held + 1] = id
      end
    end
  end
  if #held > 0 then
    return grant(held, call('HMGET', key('inputs'), unpack(held)))
  elseif answered >= request then
    return finish({ 'stale', now, answered })
  end
end

if counter('leased') > 0 then
  for _, id in ipairs(call('ZRANGEBYSCORE', key('leases'), '-inf', clock, 'LIMIT', 0, BOUND)) do
    local lease = field(id, 'lease') or ''
    set(id, 'ending', 'lapsed')
    if count(id, 'lapses') >= tonumber(lapses_max) then
      set(id, 'reason', 'lapses')
      move(id, 'leased', 'dead')
    else
      move(id, 'leased', 'pending', 'head')
    end
    event('reclaim', id, 'lease', lease)
    local last = field(id, 'state') == 'dead' and last_if(id, 'waiting')
    if last then
      move(last, 'waiting', 'dead')
      needed_is_dead(last, 'reclaim')
    end
  end
end

if counter('delayed') > 0 then
  for _, id in ipairs(call('ZRANGEBYSCORE', key('delayed'), '-inf', now, 'LIMIT', 0, BOUND)) do
    -- After a hold it is where a release without one would have put it. And what has begun of a group comes before other groups.
    local is_next = group_tasks or field(id, 'ending') == 'released'
    move(id, 'delayed', 'pending', is_next and 'head' or 'tail')
    event('promote', id)
  end
end

if slots == 0 then
  return nothing('none_asked')
end
if paused then
  return nothing('paused')
end
local room = slots
parallelism = tonumber(parallelism)
if parallelism > 0 then
  room = math.min(slots, parallelism - counter('leased'))
  if room <= 0 then
    return nothing('cap', until_expiry())
  end
end

if counter('pending') == 0 then
  if counter('delayed') > 0 then
    local ready_at = call('ZRANGE', key('delayed'), 0, 0, 'WITHSCORES')[2]
    return nothing('empty', math.min(ready_at - now, until_expiry()))
  end
  if not sealed or counter('waiting') + counter('leased') > 0 then
    return nothing('empty', until_expiry())
  end
  local settled = (last_terminal_at or 0) + SETTLE_MS + lag_ms
  if now > settled then
    return nothing('drained')
  end
  return nothing('empty', settled - now + 1)
end

-- What another hand than a script's has damaged is put back: an error here would lose all that was taken from the list.
local ids = {}
for _, id in ipairs(call('LPOP', key('pending'), math.min(room, GRANTS_MAX)) or {}) do
  if pcall(read, id) then
    ids[#ids + 1] = id
  else
    call('RPUSH', key('pending'), id)
  end
end
if not ids[1] then
  return nothing('damaged')
end
local is_read, inputs = pcall(call, 'HMGET', key('inputs'), unpack(ids))
if not is_read then
  call('RPUSH', key('pending'), unpack(ids))
  return nothing('damaged')
end
for _, id in ipairs(ids) do
  local number, former = 1, field(id, 'lease')
  if former then
    number = tonumber(string.match(former, '^%d+') or 0) + 1
    former = former .. ':' .. (field(id, 'ending') or 'cancelled')
    set(id, 'former', field(id, 'former') and field(id, 'former') .. ' ' .. former or former)
    set(id, 'ending', false)
  end
  local lease = number .. '.' .. worker .. '.' .. ARGV[2]
  put(id, 'worker', worker)
  set(id, 'lease', lease)
  move(id, 'pending', 'leased', clock + lease_ms, true)
  event('lease', id, 'lease', lease)
end
call('HSET', key('grants'), worker, ARGV[2] .. ' ' .. table.concat(ids, ' '))
if #ids < slots then
  is_idle()
else
  call('ZREM', key('idle'), worker)
end
return grant(ids, inputs)
