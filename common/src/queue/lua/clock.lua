-- What all scripts share: the keys of a run and its clocks. It stands before each of them. KEYS[1] is always molfleet:{R}:run; every
-- other key of the run lies under the same hash tag and is named by key() or task_key(), so a script touches one run and one slot of a
-- cluster.

-- Arguments of one command: Lua can't unpack many more than 7,000.
local ARGUMENTS_MAX = 2000
-- How much of a lease the recorded clock may lag behind. A fleet calls far more often than that, and a write costs more than the rest
-- of a call that finds nothing to do. No time is lost: the next call counts from what is recorded.
local LAG = 1 / 600

local call = redis.call
local prefix = string.sub(KEYS[1], 1, -4)

local function key(name)
  return prefix .. name
end

local function task_key(id)
  return prefix .. 'task:' .. id
end

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Fields of the run that are to be written, and their values.
local run_fields = {}
-- When a task last ended, and how much of the time since is not worth a write.
local last_terminal_at, lag_ms = nil, 1
-- How many tasks a group has, in a run of groups: the last one of each waits until all others have succeeded.
local group_tasks

-- Whether the run is there; a run that is being removed is not.
local function run_exists()
  local run = call('HMGET', KEYS[1], 'lease_ms', 'removing', 'group_tasks')
  group_tasks = tonumber(run[3])
  return run[1] and not run[2]
end

-- Moves the run's lease clock on, by lease/6 at most however long nobody called, and returns the lease's length, the clock,
-- and the values of the fields that are asked for. Returns nothing if there is no such run. Only scripts that workers call do this.
local function tick(...)
  local run = call('HMGET', KEYS[1], 'lease_ms', 'clock_ms', 'ran_at', 'removing', 'last_terminal_at', 'group_tasks', ...)
  if not run[1] or run[4] then
    return nil
  end
  local lease_ms, ran_at = tonumber(run[1]), tonumber(run[3])
  local passed = now - (ran_at or now)
  local clock = (tonumber(run[2]) or 0) + math.max(0, math.min(passed, math.floor(lease_ms / 6)))
  group_tasks = tonumber(run[6])
  last_terminal_at, lag_ms = tonumber(run[5]), math.floor(lease_ms * LAG)
  if not ran_at or passed < 0 or passed >= lag_ms then
    run_fields = { 'clock_ms', clock, 'ran_at', now }
  end
  return lease_ms, clock, unpack(run, 7)
end

-- Writes the fields of the run that have changed.
local function write_run()
  if run_fields[1] then
    call('HSET', KEYS[1], unpack(run_fields))
  end
end

-- Calls a command on a key with any number of arguments.
local function call_many(command, name, arguments)
  for from = 1, #arguments, ARGUMENTS_MAX do
    call(command, key(name), unpack(arguments, from, math.min(from + ARGUMENTS_MAX - 1, #arguments)))
  end
end

