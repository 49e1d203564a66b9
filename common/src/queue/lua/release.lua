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
local refused = refusal(id, name)
if refused then
  return finish(refused)
end
count(id, 'releases')
set(id, 'ending', 'released')
move(id, 'leased', 'pending', 'head')
event('release', id, 'lease', name, 'reason', ARGV[3])
wake(1)
return finish({ 'ok' })
