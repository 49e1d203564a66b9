-- purpose: charge an attempt that came to nothing to a task that is held under this lease name: a failure, or a lapse if it was the machine
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the task's id
-- ARGV[2]: the whole lease name
-- ARGV[3]: the reason, a stable short word
-- ARGV[4]: again; never if trying again is of no use; machine if the worker's machine could not do the task
-- ARGV[5]: a random number from 0 to 999999: the back-off's jitter in millionths
-- ARGV[6]: the last lines of the engine's output
-- returns: {'delayed', ready_at}; {'dead'}; {'cancelled'}; {'lost', state}; {'gone'}
-- transitions: leased -> delayed, leased -> dead, waiting -> dead

if not tick() then
  return { 'gone' }
end
local id, name = ARGV[1], ARGV[2]
local refused = refusal(id, name)
if refused then
  return finish(refused)
end
local charged = ARGV[4] == 'machine' and 'lapses' or 'failures'
local run = call('HMGET', KEYS[1], charged .. '_max', 'backoff_ms', 'backoff_max_ms')
local times = count(id, charged)
set(id, 'reason', ARGV[3])
set(id, 'ending', 'failed')
call('HSET', key('tails'), id, ARGV[6])
event('fail', id, 'lease', name, 'reason', ARGV[3], 'charged', charged)
if ARGV[4] == 'never' or times >= tonumber(run[1]) then
  move(id, 'leased', 'dead')
  local last = last_if(id, 'waiting')
  if last then
    move(last, 'waiting', 'dead')
    needed_is_dead(last, 'fail')
  end
  return finish({ 'dead' })
end
local longest = math.min(tonumber(run[3]), tonumber(run[2]) * 2 ^ (times - 1))
local ready_at = now + math.ceil(longest * tonumber(ARGV[5]) / 1000000)
move(id, 'leased', 'delayed', ready_at)
return finish({ 'delayed', ready_at })
