-- purpose: change how a run is driven while it goes
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: paused or parallelism
-- ARGV[2]: the value: why it is paused, or '' to resume; how many leases at most, or 0 for no limit
-- returns: {'ok'}; {'unknown'} for another field or value; {'gone'}
-- transitions: none

if not run_exists() then
  return { 'gone' }
end
local field, value = ARGV[1], ARGV[2]
if field == 'paused' and value ~= '' then
  call('HSET', KEYS[1], 'paused', value)
elseif field == 'paused' then
  call('HDEL', KEYS[1], 'paused')
elseif field == 'parallelism' and string.match(value, '^%d+$') then
  call('HSET', KEYS[1], 'parallelism', value)
else
  return { 'unknown' }
end
call('XADD', key('events'), 'MAXLEN', '~', EVENTS_MAX, '*', 'verb', 'set', 'field', field, 'value', value)
if field == 'parallelism' or value == '' then
  wake(call('LLEN', key('pending')))
end
return { 'ok' }
