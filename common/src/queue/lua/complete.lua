-- purpose: record a success under the latest lease name of a task, also of one that nobody holds any more
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the task's id
-- ARGV[2]: the whole lease name
-- ARGV[3]: sha256 of the stored shard
-- ARGV[4]: sha256 of the index object
-- ARGV[5]: molecules that are ok
-- ARGV[6]: molecules that are bad
-- ARGV[7]: bytes downloaded
-- ARGV[8]: bytes uploaded
-- ARGV[9...15]: queued, leased, staged, engine started, engine ended, upload started, upload ended in ms; '' for what did not take place
-- returns: {'ok'}, also when it is repeated; {'cancelled'}; {'lost', state}; {'gone'}
-- transitions: leased -> succeeded, pending -> succeeded, delayed -> succeeded

if not tick() then
  return { 'gone' }
end
local id, name = ARGV[1], ARGV[2]
local state, lease = state_and_lease(id)
if lease ~= name then
  return { 'lost', state }
elseif state == 'succeeded' then
  return { 'ok' }
elseif state == 'cancelled' then
  return { 'cancelled' }
elseif state == 'leased' then
  move(id, 'leased', 'succeeded')
elseif state == 'pending' then
  move(id, 'pending', 'succeeded')
elseif state == 'delayed' then
  move(id, 'delayed', 'succeeded')
else
  return { 'lost', state }
end

-- The lowest power of the square root of 2, rounded up, that is not below a duration.
local function bucket_of(ms)
  local mantissa, exponent = math.frexp(math.max(1, ms))
  local half = math.ceil(2 ^ (exponent - 0.5))
  return mantissa == 0.5 and 2 ^ (exponent - 1) or ms <= half and half or 2 ^ exponent
end

local function record(phase, from, to)
  if from and to then
    local ms = math.max(0, to - from)
    redis.call('HINCRBY', key('stats:' .. phase), bucket_of(ms), 1)
    redis.call('HINCRBY', key('stats:' .. phase), 'count', 1)
    redis.call('HINCRBY', key('stats:' .. phase), 'sum_ms', ms)
  end
end

-- Each moment as the time since the one before.
local at, steps, latest = {}, {}, 0
for i = 9, 15 do
  at[i] = tonumber(ARGV[i])
  steps[#steps + 1] = at[i] and string.format('%d', math.max(0, at[i] - latest)) or '-'
  latest = math.max(latest, at[i] or 0)
end
steps[#steps + 1] = string.format('%d', math.max(0, now - latest))
record('queue', at[9], at[10])
record('stage', at[10], at[11])
record('engine', at[12], at[13])
record('upload', at[14], at[15])
record('total', at[10], now)

redis.call('HSET', task_key(id), 'shard_sha256', ARGV[3], 'index_sha256', ARGV[4], 'molecules_ok', ARGV[5], 'timings_ms',
  table.concat(steps, '+'), 'bytes', ARGV[7] .. ' ' .. ARGV[8])
if tonumber(ARGV[6]) > 0 then
  redis.call('HSET', task_key(id), 'molecules_bad', ARGV[6])
end
redis.call('HDEL', task_key(id), 'queued_at', 'ending', 'reason')
redis.call('HDEL', key('inputs'), id)
redis.call('HDEL', key('tails'), id)
redis.call('HINCRBY', key('progress'), 'molecules_ok', ARGV[5])
redis.call('HINCRBY', key('progress'), 'molecules_bad', ARGV[6])
redis.call('HINCRBY', key('progress'), 'bytes', ARGV[8])
event('complete', id, 'lease', name, 'molecules', tonumber(ARGV[5]) + tonumber(ARGV[6]))
return { 'ok' }
