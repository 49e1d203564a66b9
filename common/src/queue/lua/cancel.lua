-- purpose: stop tasks, the named ones or the next ones of the whole run; their workers hear of it with their next heartbeat
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: how many to cancel at most when none is named, besides what waits for them
-- ARGV[2...]: ids of tasks; none means the whole run
-- returns: {'ok', cancelled}; {'gone'}
-- transitions: pending -> cancelled, delayed -> cancelled, leased -> cancelled, waiting -> cancelled

if not run_exists() then
  return { 'gone' }
end
local CHUNK = 1000
local cancelled = 0

local function cancel(id, state, taken)
  if state == 'pending' then
    move(id, 'pending', 'cancelled', nil, taken)
  elseif state == 'delayed' then
    move(id, 'delayed', 'cancelled')
  elseif state == 'leased' then
    set(id, 'ending', 'cancelled')
    move(id, 'leased', 'cancelled')
  elseif state == 'waiting' then
    move(id, 'waiting', 'cancelled')
  else
    return
  end
  cancelled = cancelled + 1
  event('cancel', id)
  -- What waits for it will never run.
  local last = last_if(id, 'waiting')
  if last then
    cancel(last, 'waiting')
  end
end

-- Takes many ids out of the pending list at once, in its order: one by one, each would walk the list.
local function take_pending(ids)
  local left = call('LLEN', key('pending'))
  while left > 0 do
    local others = {}
    for _, id in ipairs(call('LPOP', key('pending'), math.min(left, CHUNK))) do
      if not ids[id] then
        others[#others + 1] = id
      end
    end
    if #others > 0 then
      call('RPUSH', key('pending'), unpack(others))
    end
    left = left - CHUNK
  end
end

if #ARGV > 1 then
  local is_many, pending = #ARGV > CHUNK / 10, {}
  for i = 2, #ARGV do
    local id = ARGV[i]
    local state = state_and_lease(id)
    if state == 'pending' then
      pending[id] = true
    end
    cancel(id, state, is_many)
  end
  if is_many then
    take_pending(pending)
  end
  return finish({ 'ok', cancelled })
end
local left = tonumber(ARGV[1])
for _, id in ipairs(call('LPOP', key('pending'), left) or {}) do
  cancel(id, 'pending', true)
  left = left - 1
end
for _, place in ipairs({ 'delayed', 'leases' }) do
  if left > 0 then
    for _, id in ipairs(call('ZRANGE', key(place), 0, left - 1)) do
      cancel(id, (state_and_lease(id)))
      left = left - 1
    end
  end
end
return finish({ 'ok', cancelled })
