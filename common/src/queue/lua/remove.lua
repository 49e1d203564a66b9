-- purpose: forget a run, in bounded steps; the first one hides it from workers, the last one takes what is left
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the first task of this step
-- ARGV[2]: how many tasks this step takes
-- returns: {'more'}; {'done'}
-- transitions: none

call('HSET', KEYS[1], 'removing', 1)
local first, count_max = tonumber(ARGV[1]), tonumber(ARGV[2])
local total = tonumber(call('HGET', key('progress'), 'total') or 0)
for id = first, math.min(first + count_max, total) - 1 do
  call('UNLINK', task_key(id))
end
if first + count_max < total then
  return { 'more' }
end
for _, name in ipairs({ 'pending', 'delayed', 'leases', 'grants', 'idle', 'dead', 'inputs', 'tails', 'checkpoints', 'live', 'events',
  'stats:queue', 'stats:stage', 'stats:engine', 'stats:upload', 'stats:total', 'progress', 'run' }) do
  call('UNLINK', key(name))
end
return { 'done' }
