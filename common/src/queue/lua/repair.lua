-- purpose: put right what another hand than a script's has left wrong, if nothing has happened in the run since that was seen
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: id of the run's latest event that was seen, '' if there was none
-- ARGV[2]: how many counters follow
-- ARGV[3...]: names and values of counters, then ids of tasks that are to stand where their state belongs and nowhere else
-- returns: {'ok'}; {'busy'} if something has happened since; {'gone'}
-- transitions: none

if not run_exists() then
  return { 'gone' }
end
local latest = call('XREVRANGE', key('events'), '+', '-', 'COUNT', 1)[1]
if (latest and latest[1] or '') ~= ARGV[1] then
  return { 'busy' }
end
local ids_from = 3 + 2 * tonumber(ARGV[2])
if ids_from > 3 then
  call('HSET', key('progress'), unpack(ARGV, 3, ids_from - 1))
end
local run = call('HMGET', KEYS[1], 'clock_ms', 'lease_ms')
for i = ids_from, #ARGV do
  local id = ARGV[i]
  local state = state_and_lease(id)
  call('LREM', key('pending'), 0, id)
  call('LREM', key('dead'), 0, id)
  if state == 'pending' or state == 'dead' then
    call('RPUSH', key(state), id)
  end
  if state ~= 'delayed' then
    call('ZREM', key('delayed'), id)
  elseif not call('ZSCORE', key('delayed'), id) then
    call('ZADD', key('delayed'), now, id)
  end
  if state ~= 'leased' then
    call('ZREM', key('leases'), id)
  elseif not call('ZSCORE', key('leases'), id) then
    -- As if its worker had just renewed it: who holds it goes on, and without a worker it lapses.
    call('ZADD', key('leases'), (tonumber(run[1]) or 0) + tonumber(run[2]), id)
  end
  event('repair', id)
end
return { 'ok' }
