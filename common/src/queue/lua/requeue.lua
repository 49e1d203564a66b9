-- purpose: revive terminal tasks for a person, each only if its lease number is still the one that the person saw
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1...]: a task's id and the lease number that was seen, 0 for a task that was never leased
-- returns: {'ok', requeued}; {'gone'}
-- transitions: dead -> pending, cancelled -> pending

if not run_exists() then
  return { 'gone' }
end
local requeued = 0
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  local state, lease = state_and_lease(id)
  local number = lease and string.match(lease, '^%d+') or '0'
  if number == ARGV[i + 1] and (state == 'dead' or state == 'cancelled') then
    for _, counter in ipairs({ 'failures', 'lapses' }) do
      add(counter, -(tonumber(field(id, counter)) or 0))
      set(id, counter, false)
    end
    set(id, 'reason', false)
    if state == 'dead' then
      move(id, 'dead', 'pending', 'tail')
    else
      move(id, 'cancelled', 'pending', 'tail')
    end
    event('requeue', id)
    requeued = requeued + 1
  end
end
wake(requeued)
return finish({ 'ok', requeued })
