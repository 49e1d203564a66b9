-- purpose: stop tasks, the named ones or the next ones of the whole run; their workers hear of it with their next heartbeat
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: how many to cancel at most when none is named
-- ARGV[2...]: ids of tasks; none means the whole run
-- returns: {'ok', cancelled}; {'gone'}
-- transitions: pending -> cancelled, delayed -> cancelled, leased -> cancelled

if not run_exists() then
  return { 'gone' }
end
local cancelled = 0

local function cancel(id, state, taken)
  if state == 'pending' then
    move(id, 'pending', 'cancelled', nil, taken)
  elseif state == 'delayed' then
    move(id, 'delayed', 'cancelled')
  elseif state == 'leased' then
    redis.call('HSET', task_key(id), 'ending', 'cancelled')
    move(id, 'leased', 'cancelled')
  else
    return
  end
  cancelled = cancelled + 1
  event('cancel', id)
end

if #ARGV > 1 then
  for i = 2, #ARGV do
    local state = state_and_lease(ARGV[i])
    cancel(ARGV[i], state)
  end
  return { 'ok', cancelled }
end
local bound = tonumber(ARGV[1])
for _, id in ipairs(redis.call('LPOP', key('pending'), bound) or {}) do
  cancel(id, 'pending', true)
end
for _, place in ipairs({ 'delayed', 'leases' }) do
  if cancelled < bound then
    for _, id in ipairs(redis.call('ZRANGE', key(place), 0, bound - cancelled - 1)) do
      cancel(id, (state_and_lease(id)))
    end
  end
end
return { 'ok', cancelled }
