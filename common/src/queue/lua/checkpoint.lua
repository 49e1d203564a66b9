-- purpose: record a bundle that stands in the store, from which the next attempt of a task goes on; the hold of a release ends with it
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the task's id
-- ARGV[2]: the whole lease name: the latest one of a task that is held, or that nobody holds
-- ARGV[3]: the bundle's number within the attempt, from 1
-- ARGV[4]: sha256 of the bundle
-- ARGV[5]: how far the task is, <step>/<steps>; - if its engine does not say
-- returns: {'ok', bundle...}, the bundles that are kept, the newest first, also when it is repeated; {'cancelled'}; {'lost', state}; {'gone'}
-- transitions: delayed -> pending (promote)

if not tick() then
  return { 'gone' }
end
local id, name = ARGV[1], ARGV[2]
local state, lease = state_and_lease(id)
if lease ~= name or (state ~= 'leased' and state ~= 'pending' and state ~= 'delayed') then
  return finish(refusal(id, name))
end
local bundle = name .. '-' .. ARGV[3] .. ':' .. ARGV[4]
local newest, older = string.match(call('HGET', key('checkpoints'), id) or '', '^%S+ (%S+) ?(%S*)$')
if bundle ~= newest and bundle ~= older then
  newest, older = bundle, newest or ''
  call('HSET', key('checkpoints'), id, ARGV[5] .. ' ' .. newest .. (older == '' and '' or ' ' .. older))
  event('checkpoint', id, 'lease', name, 'number', ARGV[3])
end
if state == 'delayed' and field(id, 'ending') == 'released' then
  move(id, 'delayed', 'pending', 'head')
  event('promote', id)
  wake(1)
end
return finish(older == '' and { 'ok', newest } or { 'ok', newest, older })
