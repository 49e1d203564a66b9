-- purpose: declare that all tasks of the manifest are pushed
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: how many tasks the manifest has
-- returns: {'ok'}; {'short', total}; {'gone'}
-- transitions: none

if not run_exists() then
  return { 'gone' }
end
local total = tonumber(call('HGET', key('progress'), 'total'))
if total ~= tonumber(ARGV[1]) then
  return { 'short', total }
end
call('HSET', KEYS[1], 'sealed', 1)
return { 'ok' }
