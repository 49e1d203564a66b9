-- purpose: revive terminal tasks for a person, each only if its lease number is still the one that the person saw; and what waits for them
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1...]: a task's id and the lease number that was seen, 0 for a task that was never leased
-- returns: {'ok', requeued}; {'gone'}
-- transitions: dead -> pending, cancelled -> pending, dead -> waiting, cancelled -> waiting

if not run_exists() then
  return { 'gone' }
end
local requeued, pending = 0, 0

local function revive(id, state, to)
  for _, counter in ipairs({ 'failures', 'lapses' }) do
    add(counter, -(tonumber(field(id, counter)) or 0))
    set(id, counter, false)
  end
  set(id, 'reason', false)
  if state == 'dead' and to == 'waiting' then
    move(id, 'dead', 'waiting')
  elseif to == 'waiting' then
    move(id, 'cancelled', 'waiting')
  elseif state == 'dead' then
    move(id, 'dead', 'pending', 'tail')
  else
    move(id, 'cancelled', 'pending', 'tail')
  end
  event('requeue', id)
  requeued = requeued + 1
  pending = pending + (to == 'pending' and 1 or 0)
end

for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  local state, lease = state_and_lease(id)
  local number = lease and string.match(lease, '^%d+') or '0'
  if number == ARGV[i + 1] and (state == 'dead' or state == 'cancelled') then
    local to = is_last(id) and let_be(id) or 'pending'
    if to == 'pending' or to == 'waiting' then
      revive(id, state, to)
    end
    local last = last_if(id, 'dead') or last_if(id, 'cancelled')
    if last and let_be(last) == 'waiting' then
      revive(last, field(last, 'state'), 'waiting')
    end
  end
end
wake(pending)
return finish({ 'ok', requeued })
