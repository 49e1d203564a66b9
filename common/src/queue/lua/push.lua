-- purpose: append the next tasks of a run, whole groups if it has groups; those that are there already are skipped, so that every chunk
--          may come twice
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the spec's digest
-- ARGV[2]: the first task's id
-- ARGV[3...]: one input per task
-- returns: {'ok', total}; {'gap', total} if tasks before the first are missing; {'sealed', total} if the run takes no more; {'differs', digest};
--          {'gone'}
-- transitions: absent -> pending, absent -> waiting

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
pushed = pushed - pushed % (group_tasks or 1)
if first > total then
  return { 'gap', total }
end
if pushed <= total then
  return { 'ok', total }
end
if run[2] then
  return { 'sealed', total }
end
local waiting = group_tasks and (pushed - total) / group_tasks or 0
for from = total, pushed - 1, BATCH do
  local ids, inputs = {}, {}
  for id = from, math.min(from + BATCH, pushed) - 1 do
    if is_last(id) then
      call('HSET', task_key(id), 'state', 'waiting')
    else
      ids[#ids + 1] = id
    end
    inputs[#inputs + 1] = id
    inputs[#inputs + 1] = ARGV[3 + id - first]
  end
  if #ids > 0 then
    call('RPUSH', key('pending'), unpack(ids))
  end
  call('HSET', key('inputs'), unpack(inputs))
end
add('total', pushed - total)
add('waiting', waiting)
add('pending', pushed - total - waiting)
event('push', total, 'tasks', pushed - total)
wake(pushed - total - waiting)
return finish({ 'ok', pushed })
