-- purpose: hand a task back unharmed, to be leased next
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the task's id
-- ARGV[2]: the whole lease name
-- ARGV[3]: why
-- returns: {'ok'}; {'cancelled'}; {'lost', state}; {'gone'}
-- transitions: leased -> pending

if not tick() then
  return { 'gone' }
end
local id, name = ARGV[1], ARGV[2]
local state, lease = state_and_lease(id)
if lease == name and state == 'cancelled' then
  return { 'cancelled' }
elseif lease ~= name or state ~= 'leased' then
  return { 'lost', state }
end
count(id, 'releases')
redis.call('HSET', task_key(id), 'ending', 'released')
move(id, 'leased', 'pending', 'head')
event('release', id, 'lease', name, 'reason', ARGV[3])
wake(1)
return { 'ok' }
