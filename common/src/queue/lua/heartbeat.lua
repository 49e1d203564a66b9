-- purpose: renew the named leases of one worker, each by its whole name
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1...]: a task's id and its lease name, for each lease
-- returns: {'ok', now, answer...}; an answer is held; unheld (the latest name of a task that nobody holds: go on, complete will be adopted);
--          cancelled; or lost. {'gone'}
-- transitions: none
--
-- It changes no task and is what a fleet calls most, so it does without the prelude.

local lease_ms, clock = tick()
if not lease_ms then
  return { 'gone' }
end
local reply, renewed = { 'ok', now }, {}
for i = 1, #ARGV, 2 do
  local id, name = ARGV[i], ARGV[i + 1]
  local task = call('HMGET', task_key(id), 'state', 'lease')
  local state, answer = task[1], 'lost'
  if task[2] == name then
    if state == 'leased' then
      renewed[#renewed + 1] = clock + lease_ms
      renewed[#renewed + 1] = id
      answer = 'held'
    elseif state == 'pending' or state == 'delayed' then
      answer = 'unheld'
    elseif state == 'cancelled' then
      answer = 'cancelled'
    end
  end
  reply[#reply + 1] = answer
end
call_many('ZADD', 'leases', renewed)
write_run()
return reply
