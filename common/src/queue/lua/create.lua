-- purpose: make a run, or find that the same one is there
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the spec's digest
-- ARGV[2...]: fields and values of the run's hash
-- returns: {'created'}; {'exists', total, sealed} for the same digest; {'differs', digest}; {'removing'}
-- transitions: none

local run = call('HMGET', KEYS[1], 'digest', 'removing', 'sealed')
if run[2] then
  return { 'removing' }
end
if run[1] and run[1] ~= ARGV[1] then
  return { 'differs', run[1] }
end
if run[1] then
  return { 'exists', tonumber(call('HGET', key('progress'), 'total')), run[3] and 1 or 0 }
end
call('HSET', KEYS[1], 'digest', ARGV[1], 'pushed_at', now, unpack(ARGV, 2))
for _, counter in ipairs({ 'total', 'waiting', 'pending', 'delayed', 'leased', 'succeeded', 'dead', 'cancelled', 'failures',
  'lapses', 'releases', 'molecules_ok', 'molecules_bad', 'bytes' }) do
  call('HSET', key('progress'), counter, 0)
end
return { 'created' }
