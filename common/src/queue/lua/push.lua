-- purpose: append the next tasks of a run; those that are there already are skipped, so that every chunk may come twice
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the spec's digest
-- ARGV[2]: the first task's id
-- ARGV[3...]: one input per task
-- returns: {'ok', total}; {'gap', total} if tasks before the first are missing; {'sealed', total} if the run takes no more; {'differs', digest};
--          {'gone'}
-- transitions: absent -> pending

local BATCH = 1000

if not run_exists() then
  return { 'gone' }
end
local run = call('HMGET', KEYS[1], 'digest', 'sealed')
if run[1] ~= ARGV[1] then
  return { 'differs', run[1] }
end
local first = tonumber(ARGV[2])
local total = tonumber(call('HGET', key('progress'), 'total'))
local pushed = first + #ARGV - 2
if first > total then
  return { 'gap', total }
end
if pushed <= total then
  return { 'ok', total }
end
if run[2] then
  return { 'sealed', total }
end
for from = total, pushed - 1, BATCH do
  local ids, inputs = {}, {}
  for id = from, math.min(from + BATCH, pushed) - 1 do
    ids[#ids + 1] = id
    inputs[#inputs + 1] = id
    inputs[#inputs + 1] = ARGV[3 + id - first]
  end
  call('RPUSH', key('pending'), unpack(ids))
  call('HSET', key('inputs'), unpack(inputs))
end
add('total', pushed - total)
add('pending', pushed - total)
event('push', total, 'tasks', pushed - total)
wake(pushed - total)
return finish({ 'ok', pushed })
