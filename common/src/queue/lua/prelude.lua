-- What the scripts that change tasks share: the one place where a task changes its state. It stands before each of them, after clock.lua.
--
-- A script reads each task once and writes each hash and sorted set once, in finish(): most of a script's time goes into its calls of
-- Redis and into what crosses to it. So what it changes of them is read back through field(), counter() and state_and_lease() only, and
-- every way out of a script that may have changed something goes through finish(). Lists are changed at once: their order matters.

local EVENTS_MAX = '10000'
local WAKES_MAX = 1000

-- What is to be written: differences of the counters; by task, fields and values to set and fields to take away; by sorted set, members
-- to add and to remove.
local differences, set_fields, taken_fields, added, removed = {}, {}, {}, {}, {}
-- Counters and tasks as they were read, and what this script has changed of the tasks since.
local counters, tasks = {}, {}

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
    local values = call('HMGET', task_key(id), 'state', 'lease', 'ending', 'former', 'queued_at', 'reason', 'failures',
      'lapses', 'releases')
    task = { state = values[1], lease = values[2], ending = values[3], former = values[4], queued_at = values[5], reason = values[6],
      failures = values[7], lapses = values[8], releases = values[9] }
    tasks[id] = task
  end
  return task
end

-- A field of a task, false if it is absent.
local function field(id, name)
  return read(id)[name]
end

local function append(lists, name, first, second)
  local list = lists[name]
  if list then
    local length = #list
    list[length + 1], list[length + 2] = first, second
  else
    lists[name] = { first, second }
  end
end

-- Sets a field of a task that is read back; false takes it away, for good: what is taken away is not set again.
local function set(id, name, value)
  local task = read(id)
  if task[name] == value then
    return
  end
  task[name] = value
  if value then
    append(set_fields, id, name, value)
  else
    append(taken_fields, id, name)
  end
end

-- Sets fields of a task that are not read back, given as names and values.
local function put(id, ...)
  local fields = set_fields[id]
  if not fields then
    set_fields[id] = { ... }
    return
  end
  for _, text in ipairs({ ... }) do
    fields[#fields + 1] = text
  end
end

-- Adds one to a counter of a task and of its run, and returns the task's.
local function count(id, counter)
  local counted = (tonumber(field(id, counter)) or 0) + 1
  add(counter, 1)
  set(id, counter, counted)
  return counted
end

-- Gives a leased task this expiry, on the lease clock.
local function renew(id, expiry)
  append(added, 'leases', expiry, id)
end

-- Changes a task's state: its place, the counters and its hash together. `place` is 'head' or 'tail' for pending, the time for
-- delayed, the expiry for leased. `taken` says that the caller has already taken the id from its old place.
local function move(id, from, to, place, taken)
  if taken then
    -- nothing to take
  elseif from == 'pending' or from == 'dead' then
    call('LREM', key(from), 1, id)
  elseif from == 'delayed' then
    append(removed, 'delayed', id)
  elseif from == 'leased' then
    append(removed, 'leases', id)
  end
  if to == 'pending' then
    call(place == 'head' and 'LPUSH' or 'RPUSH', key('pending'), id)
    set(id, 'queued_at', string.format('%d', now))
  elseif to == 'delayed' then
    append(added, 'delayed', place, id)
  elseif to == 'leased' then
    append(added, 'leases', place, id)
  elseif to ~= 'waiting' then
    if to == 'dead' then
      call('RPUSH', key('dead'), id)
    end
    if not last_terminal_at or math.abs(now - last_terminal_at) >= lag_ms then
      last_terminal_at = now
      run_fields[#run_fields + 1] = 'last_terminal_at'
      run_fields[#run_fields + 1] = now
    end
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

-- Records the stored result of a task that succeeds: digests of its shard and its index, and its molecules by verdict; and further
-- fields and values.
local function record_result(id, shard, index, ok, bad, ...)
  put(id, 'shard_sha256', shard, 'index_sha256', index, 'molecules_ok', ok, ...)
  if bad ~= '0' then
    put(id, 'molecules_bad', bad)
  end
  set(id, 'queued_at', false)
  set(id, 'ending', false)
  set(id, 'reason', false)
  add('molecules_ok', ok)
  add('molecules_bad', bad)
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

-- Writes the counters that have changed, after reading those of them that nobody has read yet.
local function write_counters()
  local changed, unread = {}, {}
  for counter, difference in pairs(differences) do
    if difference ~= 0 then
      changed[#changed + 1] = counter
      if not counters[counter] then
        unread[#unread + 1] = counter
      end
    end
  end
  if unread[1] then
    for i, value in ipairs(call('HMGET', key('progress'), unpack(unread))) do
      counters[unread[i]] = value
    end
  end
  local values = {}
  for _, counter in ipairs(changed) do
    values[#values + 1] = counter
    values[#values + 1] = (counters[counter] or 0) + differences[counter]
  end
  if values[1] then
    call('HSET', key('progress'), unpack(values))
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
  for id, fields in pairs(set_fields) do
    call('HSET', task_key(id), unpack(fields))
  end
  for id, fields in pairs(taken_fields) do
    call('HDEL', task_key(id), unpack(fields))
  end
  write_counters()
  write_run()
  return reply
end

