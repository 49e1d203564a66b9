-- purpose: reclaim, promote, and give a worker as many tasks as it has free slots
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the worker's id
-- ARGV[2]: the number of its request, raised only after an answer that gave tasks
-- ARGV[3]: its free slots; 0 takes it off the list of idle workers
-- ARGV[4]: the spec's digest as the worker knows it: under the same id, a run may have been removed and another one pushed
-- returns: {'granted', now, {id, lease, input, former, queued_at, failures}...}; {'nothing', now, why, wait_ms} where why is paused, cap,
--          empty, drained or none_asked; {'stale', now, request} if this request was answered and nothing of it is held;
--          {'differs', digest}; {'gone'}
-- transitions: leased -> pending (reclaim), leased -> dead (reclaim), waiting -> dead (reclaim), delayed -> pending (promote), pending -> leased

local BOUND = 100
local GRANTS_MAX = 1000
local SETTLE_MS = 5000
local EARLY_WORKERS = 64
local EARLY_MS = 250

local worker, request, slots = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local lease_ms, clock, pushed_at, lapses_max, paused, parallelism, sealed, digest, last_terminal_at =
  tick('pushed_at', 'lapses_max', 'paused', 'parallelism', 'sealed', 'digest', 'last_terminal_at')
if not lease_ms then
  return { 'gone' }
end
if digest ~= ARGV[4] then
  return { 'differs', digest }
end
local longest_wait = math.max(1, math.min(SETTLE_MS, math.floor(lease_ms / 12)))
local progress = call('HMGET', key('progress'), 'waiting', 'pending', 'delayed', 'leased')
local counted = { waiting = progress[1], pending = progress[2], delayed = progress[3], leased = progress[4] }

-- How many tasks are in a state now, as far as this script has come.
local function counter(state)
  return counted[state] + (differences[state] or 0)
end

local function grant(ids)
  local reply = { 'granted', now }
  local inputs = call('HMGET', key('inputs'), unpack(ids))
  for i, id in ipairs(ids) do
    reply[#reply + 1] = { id, field(id, 'lease'), inputs[i] or '', field(id, 'former') or '', field(id, 'queued_at') or pushed_at,
      field(id, 'failures') or '0' }
  end
  return finish(reply)
end

local function nothing(why, wait_ms)
  if slots > 0 then
    call('ZADD', key('idle'), slots, worker)
  else
    call('ZREM', key('idle'), worker)
  end
  return finish({ 'nothing', now, why, math.max(1, math.min(wait_ms, longest_wait)) })
end

-- The same for work that may turn up when a lease expires: the first of the idle workers then ask in time to reclaim it. All of them
-- would be a storm, and none before EARLY_MS, however many leases expire.
local function nothing_yet(why, wait_ms)
  local reply = nothing(why, wait_ms)
  if counter('leased') > 0 and call('ZRANK', key('idle'), worker) < EARLY_WORKERS then
    local expiry = call('ZRANGEBYSCORE', key('leases'), '(' .. clock, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    reply[4] = expiry and math.min(reply[4], math.max(EARLY_MS, expiry - clock + 1)) or reply[4]
  end
  return reply
end

-- The same request again: its answer was lost. What it gave is given again, and nothing new.
local last = call('HGET', key('grants'), worker)
if last then
  local answered = tonumber(string.match(last, '^%d+'))
  local held = {}
  if answered == request then
    local ending = '.' .. worker .. '.' .. ARGV[2]
    for id in string.gmatch(string.match(last, ' .*$') or '', '%d+') do
      local state, lease = state_and_lease(id)
      if state == 'leased' and string.sub(lease, -#ending) == ending then
        renew(id, clock + lease_ms)
        held[#held + 1] = id
      end
    end
  end
  if #held > 0 then
    return grant(held)
  elseif answered >= request then
    return finish({ 'stale', now, answered })
  end
end

if counter('leased') > 0 then
  for _, id in ipairs(call('ZRANGEBYSCORE', key('leases'), '-inf', clock, 'LIMIT', 0, BOUND)) do
    local lease = field(id, 'lease')
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
    move(id, 'delayed', 'pending', 'tail')
    event('promote', id)
  end
end

if slots == 0 then
  return nothing('none_asked', longest_wait)
end
if paused then
  return nothing('paused', longest_wait)
end
local room = slots
parallelism = tonumber(parallelism)
if parallelism > 0 then
  room = math.min(slots, parallelism - counter('leased'))
  if room <= 0 then
    return nothing_yet('cap', longest_wait)
  end
end

if counter('pending') == 0 then
  if counter('delayed') > 0 then
    return nothing_yet('empty', tonumber(call('ZRANGE', key('delayed'), 0, 0, 'WITHSCORES')[2]) - now)
  end
  if not sealed or counter('waiting') + counter('leased') > 0 then
    return nothing_yet('empty', longest_wait)
  end
  -- As terminal as a task that has just been reclaimed and found dead.
  local settled = (differences.dead and now or tonumber(last_terminal_at) or 0) + SETTLE_MS
  if now > settled then
    return nothing('drained', longest_wait)
  end
  return nothing('empty', settled - now + 1)
end

local ids = call('LPOP', key('pending'), math.min(room, GRANTS_MAX))
if not ids then
  -- Another hand than a script's has made the list shorter than its counter says; `launchpad audit` names it.
  return nothing('empty', longest_wait)
end
for _, id in ipairs(ids) do
  local number, former = 1, field(id, 'lease')
  if former then
    number = tonumber(string.match(former, '^%d+')) + 1
    former = former .. ':' .. (field(id, 'ending') or 'cancelled')
    set(id, 'former', field(id, 'former') and field(id, 'former') .. ' ' .. former or former)
    set(id, 'ending', false)
  end
  local lease = number .. '.' .. worker .. '.' .. ARGV[2]
  set(id, 'lease', lease)
  set(id, 'worker', worker)
  move(id, 'pending', 'leased', clock + lease_ms, true)
  event('lease', id, 'lease', lease)
end
call('HSET', key('grants'), worker, ARGV[2] .. ' ' .. table.concat(ids, ' '))
if #ids < slots then
  call('ZADD', key('idle'), slots - #ids, worker)
else
  call('ZREM', key('idle'), worker)
end
return grant(ids)
