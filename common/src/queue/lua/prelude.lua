-- What all scripts of a run share: its keys, its clocks, and the one place where a task changes its state.
-- It stands before each script. KEYS[1] is always molfleet:{R}:run; every other key of the run lies under the same hash tag and is
-- named here or by key(), so a script touches one run and one slot of a cluster.

local EVENTS_MAX = 10000
local WAKES_MAX = 1000

local prefix = string.sub(KEYS[1], 1, -4)

local function key(name)
  return prefix .. name
end

local function task_key(id)
  return prefix .. 'task:' .. id
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Whether the run is there; a run that is being removed is not.
local function run_exists()
  local run = redis.call('HMGET', KEYS[1], 'lease_ms', 'removing')
  return run[1] and not run[2]
end

-- Moves the run's lease clock on, by lease/6 at most however long nobody called, and returns the lease's length, the clock,
-- and the values of the fields that are asked for. Returns nothing if there is no such run. Only scripts that workers call do this.
local function tick(...)
  local run = redis.call('HMGET', KEYS[1], 'lease_ms', 'clock_ms', 'ran_at', 'removing', ...)
  if not run[1] or run[4] then
    return nil
  end
  local lease_ms = tonumber(run[1])
  local passed = now - (tonumber(run[3]) or now)
  local clock = (tonumber(run[2]) or 0) + math.max(0, math.min(passed, math.floor(lease_ms / 6)))
  redis.call('HSET', KEYS[1], 'clock_ms', clock, 'ran_at', now)
  return lease_ms, clock, unpack(run, 5)
end

local function event(verb, id, ...)
  redis.call('XADD', key('events'), 'MAXLEN', '~', EVENTS_MAX, '*', 'verb', verb, 'task', id, ...)
end

-- Tells as many idle workers as there are new tasks. Only a hint: they ask again by themselves. A worker that nobody hears any more
-- is struck off, and the next one is told in its place.
local function wake(tasks)
  if tasks < 1 then
    return
  end
  for _, worker in ipairs(redis.call('ZRANGE', key('idle'), 0, WAKES_MAX - 1)) do
    redis.call('ZREM', key('idle'), worker)
    if redis.call('PUBLISH', 'molfleet:worker:' .. worker .. ':wake', KEYS[1]) > 0 then
      tasks = tasks - 1
    end
    if tasks == 0 then
      return
    end
  end
end

-- Changes a task's state: its place, the counters and its hash together. `place` is 'head' or 'tail' for pending, the time for
-- delayed, the expiry for leased. `taken` says that the caller has already taken the id from its old place.
local function move(id, from, to, place, taken)
  if taken then
    -- nothing to take
  elseif from == 'pending' or from == 'dead' then
    redis.call('LREM', key(from), 1, id)
  elseif from == 'delayed' then
    redis.call('ZREM', key('delayed'), id)
  elseif from == 'leased' then
    redis.call('ZREM', key('leases'), id)
  end
  if to == 'pending' then
    redis.call(place == 'head' and 'LPUSH' or 'RPUSH', key('pending'), id)
    redis.call('HSET', task_key(id), 'queued_at', now)
  elseif to == 'delayed' then
    redis.call('ZADD', key('delayed'), place, id)
  elseif to == 'leased' then
    redis.call('ZADD', key('leases'), place, id)
  else
    if to == 'dead' then
      redis.call('RPUSH', key('dead'), id)
    end
    redis.call('HSET', KEYS[1], 'last_terminal_at', now)
  end
  redis.call('HINCRBY', key('progress'), from, -1)
  redis.call('HINCRBY', key('progress'), to, 1)
  redis.call('HSET', task_key(id), 'state', to)
end

-- Adds one to a counter of a task and of its run, and returns the task's.
local function count(id, counter)
  redis.call('HINCRBY', key('progress'), counter, 1)
  return redis.call('HINCRBY', task_key(id), counter, 1)
end

-- A task's state and latest lease name, which is false if it was never leased. A task without a hash is pending.
local function state_and_lease(id)
  local task = redis.call('HMGET', task_key(id), 'state', 'lease')
  if task[1] then
    return task[1], task[2]
  end
  local total = tonumber(redis.call('HGET', key('progress'), 'total') or 0)
  local number = tonumber(id)
  local exists = number and number >= 0 and number < total and string.format('%d', number) == id
  return exists and 'pending' or 'absent', false
end

