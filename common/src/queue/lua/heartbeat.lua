-- purpose: renew the named leases of one worker, each by its whole name
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1...]: a task's id and its lease name, for each lease
-- returns: {'ok', now, answer...}; an answer is held; unheld (the latest name of a task that nobody holds: go on, complete will be adopted);
--          cancelled; or lost. {'gone'}
-- transitions: none

local lease_ms, clock = tick()
if not lease_ms then
  return { 'gone' }
end
local reply = { 'ok', now }
for i = 1, #ARGV, 2 do
  local state, lease = state_and_lease(ARGV[i])
  local answer = 'lost'
  if lease == ARGV[i + 1] then
    if state == 'leased' then
      renew(ARGV[i], clock + lease_ms)
      answer = 'held'
    elseif state == 'pending' or state == 'delayed' then
      answer = 'unheld'
    elseif state == 'cancelled' then
      answer = 'cancelled'
    end
  end
  reply[#reply + 1] = answer
end
return finish(reply)
