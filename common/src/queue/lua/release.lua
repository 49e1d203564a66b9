-- purpose: hand a task back unharmed, to be leased next; after a hold, if its last bundle is still on its way to the store
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the task's id
-- ARGV[2]: the whole lease name
-- ARGV[3]: why
-- ARGV[4]: for how many ms the next attempt waits for the bundle, at most 10000; 0 for none
-- returns: {'ok'}; {'cancelled'}; {'lost', state}; {'gone'}
-- transitions: leased -> pending, leased -> delayed

local HOLD_MAX_MS = 10000

if not tick() then
  return { 'gone' }
end
local id, name = ARGV[1], ARGV[2]
local refused = refusal(id, name)
if refused then
  return finish(refused)
end
local hold_ms = math.min(tonumber(ARGV[4]), HOLD_MAX_MS)
count(id, 'releases')
set(id, 'ending', 'released')
if hold_ms > 0 then
  move(id, 'leased', 'delayed', now + hold_ms)
else
  move(id, 'leased', 'pending', 'head')
end
event('release', id, 'lease', name, 'reason', ARGV[3], 'hold_ms', hold_ms)
wake(1)
return finish({ 'ok' })
