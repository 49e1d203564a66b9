-- What all scripts of a run share: its keys, its clocks, and the one place where a task changes its state.
-- It stands before each script. KEYS[1] is always molfleet:{R}:run; every other key of the run lies under the same hash tag and is
-- named here or by key(), so a script touches one run and one slot of a cluster.
--
-- A script reads each task once and writes each hash and sorted set once, in finish(): most of a script's time goes into its calls of
-- Redis. So what it changes of them is read back through field(), counter() and state_and_lease() only, and every way out of a script
-- that may have changed something goes through finish(). Lists are changed at once: their order matters.

local EVENTS_MAX = 10000
local WAKES_MAX = 1000
-- Arguments of one command: Lua can't unpack many more than 7,000.
local ARGUMENTS_MAX = 2000
local TASK_FIELDS = { 'state', 'lease', 'ending', 'former', 'queued_at', 'reason', 'failures', 'lapses', 'releases' }

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

-- What is to be written: fields of the run, differences of the counters, fields of tasks by id, members of sorted sets.
local run_fields, differences, changed, added, removed = {}, {}, {}, {}, {}
local tasks = {}

-- How many tasks a group has, in a run of groups: the last one of each waits until all others have succeeded.
local group_tasks

-- Whether the run is there; a run that is being removed is not.
local function run_exists()
  local run = call('HMGET', KEYS[1], 'lease_ms', 'removing', 'group_tasks')
  group_tasks = tonumber(run[3])
  return run[1] and not run[2]
end

local function set_run(name, value)
  run_fields[name] = value
end

-- Moves the run's lease clock on, by lease/6 at most however long nobody called, and returns the lease's length, the clock,
-- and the values of the fields that are asked for. Returns nothing if there is no such run. Only scripts that workers call do this.
local function tick(...)
  local run = call('HMGET', KEYS[1], 'lease_ms', 'clock_ms', 'ran_at', 'removing', 'group_tasks', ...)
  if not run[1] or run[4] then
    return nil
  end
  group_tasks = tonumber(run[5])
  local lease_ms = tonumber(run[1])
  local passed = now - (tonumber(run[3]) or now)
  local clock = (tonumber(run[2]) or 0) + math.max(0, math.min(passed, math.floor(lease_ms / 6)))
  set_run('clock_ms', clock)
  set_run('ran_at', now)
  return lease_ms, clock, unpack(run, 6)
end

local function event(verb, id, ...)
  call('XADD', key('events'), 'MAXLEN', '~', EVENTS_MAX, '*', 'verb', verb, 'task', id, ...)
end

-- Tells as many idle workers as there are new tasks. Only a hint: they ask again by themselves. A worker that nobody hears any more
-- is struck off, and the next one is told in its place.
local function wake(tasks)
  if tasks < 1 then
    return
  end
  for _, worker in ipairs(call('ZRANGE', key('idle'), 0, WAKES_MAX - 1)) do
    call('ZREM', key('idle'), worker)
    if call('PUBLISH', 'molfleet:worker:' .. worker .. ':wake', KEYS[1]) > 0 then
      tasks = tasks - 1
    end
    if tasks == 0 then
      return
    end
  end
end

-- Adds to a counter of the run.
local function add(counter, difference)
  differences[counter] = (differences[counter] or 0) + difference
end

-- A task as this script sees it: what Redis has, and what this script has changed since.
local function read(id)
  local task = tasks[id]
  if not task then
    local values = call('HMGET', task_key(id), unpack(TASK_FIELDS))
    task = {}
    for i, name in ipairs(TASK_FIELDS) do
      task[name] = values[i]
    end
    tasks[id] = task
  end
  return task
end

-- A field of a task, false if it is absent.
local function field(id, name)
  return read(id)[name]
end

-- Sets a field of a task; false takes it away, if it is one of TASK_FIELDS.
local function set(id, name, value)
  local task = read(id)
  if task[name] ~= value then
    task[name] = value
    local fields = changed[id] or {}
    changed[id] = fields
    fields[name] = value
  end
end

-- Adds one to a counter of a task and of its run, and returns the task's.
local function count(id, counter)
  local counted = (tonumber(field(id, counter)) or 0) + 1
  add(counter, 1)
  set(id, counter, counted)
  return counted
end

local function later(list, name, ...)
  local members = list[name] or {}
  list[name] = members
  for _, value in ipairs({ ... }) do
    members[#members + 1] = value
  end
end

-- Gives a leased task this expiry, on the lease clock.
local function renew(id, expiry)
  later(added, 'leases', expiry, id)
end

-- Changes a task's state: its place, the counters and its hash together. `place` is 'head' or 'tail' for pending, the time for
-- delayed, the expiry for leased. `taken` says that the caller has already taken the id from its old place.
local function move(id, from, to, place, taken)
  if taken then
    -- nothing to take
  elseif from == 'pending' or from == 'dead' then
    call('LREM', key(from), 1, id)
  elseif from == 'delayed' then
    later(removed, 'delayed', id)
  elseif from == 'leased' then
    later(removed, 'leases', id)
  end
  if to == 'pending' then
    call(place == 'head' and 'LPUSH' or 'RPUSH', key('pending'), id)
    set(id, 'queued_at', string.format('%d', now))
  elseif to == 'delayed' then
    later(added, 'delayed', place, id)
  elseif to == 'leased' then
    later(added, 'leases', place, id)
  elseif to ~= 'waiting' then
    if to == 'dead' then
      call('RPUSH', key('dead'), id)
    end
    set_run('last_terminal_at', now)
  end
  add(from, -1)
  add(to, 1)
  set(id, 'state', to)
end

-- A task's state and latest lease name, which is false if it was never leased. A task without a hash is pending.
local function state_and_lease(id)
  local task = read(id)
  if task.state then
    return task.state, task.lease
  end
  local total = tonumber(call('HGET', key('progress'), 'total') or 0)
  local number = tonumber(id)
  local exists = number and number >= 0 and number < total and string.format('%d', number) == id
  return exists and 'pending' or 'absent', false
end

-- Whether a task is the last one of its group.
local function is_last(id)
  return group_tasks and (id + 1) % group_tasks == 0
end

-- The last task of a task's group, if that is another one and in this state.
local function last_if(id, state)
  if not group_tasks or is_last(id) then
    return nil
  end
  local last = string.format('%d', id - id % group_tasks + group_tasks - 1)
  return field(last, 'state') == state and last or nil
end

-- What the others let the last task of a group be: pending once all have succeeded, waiting as long as all may; else dead or cancelled,
-- as the first of them that is.
local function let_be(last)
  local state = 'pending'
  for number = last - group_tasks + 1, last - 1 do
    local other = field(string.format('%d', number), 'state')
    if other == 'dead' or other == 'cancelled' then
      return other
    elseif other ~= 'succeeded' then
      state = 'waiting'
    end
  end
  return state
end

-- Says that a task is dead because one that it needs is.
local function needed_is_dead(last, verb)
  set(last, 'reason', 'needed_task_dead')
  event(verb, last, 'reason', 'needed_task_dead')
end

-- Why a write under a lease name is refused, as a reply; nil if the task is held under it.
local function refusal(id, name)
  local state, lease = state_and_lease(id)
  if lease == name and state == 'leased' then
    return nil
  elseif lease == name and state == 'cancelled' then
    return { 'cancelled' }
  end
  return { 'lost', state }
end

-- Calls a command on a key with any number of arguments.
local function call_many(command, name, arguments)
  for from = 1, #arguments, ARGUMENTS_MAX do
    call(command, key(name), unpack(arguments, from, math.min(from + ARGUMENTS_MAX - 1, #arguments)))
  end
end

-- Adds to the numbers in the fields of a hash.
local function add_to_fields(name, sums)
  local names = {}
  for sum in pairs(sums) do
    names[#names + 1] = sum
  end
  if #names > 0 then
    local before, pairs_of = call('HMGET', key(name), unpack(names)), {}
    for i, sum in ipairs(names) do
      pairs_of[2 * i - 1] = sum
      pairs_of[2 * i] = (before[i] or 0) + sums[sum]
    end
    call('HSET', key(name), unpack(pairs_of))
  end
end

-- Writes fields of a hash; false takes one away.
local function write(hash, fields)
  local present, absent = {}, {}
  for name, value in pairs(fields) do
    if value then
      present[#present + 1] = name
      present[#present + 1] = value
    else
      absent[#absent + 1] = name
    end
  end
  if #present > 0 then
    call('HSET', hash, unpack(present))
  end
  if #absent > 0 then
    call('HDEL', hash, unpack(absent))
  end
end

-- Writes what the script has changed, and gives its reply.
local function finish(reply)
  for name, members in pairs(removed) do
    call_many('ZREM', name, members)
  end
  for name, members in pairs(added) do
    call_many('ZADD', name, members)
  end
  for id, fields in pairs(changed) do
    write(task_key(id), fields)
  end
  add_to_fields('progress', differences)
  write(KEYS[1], run_fields)
  return reply
end

