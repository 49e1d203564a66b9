-- purpose: record successes, each under the latest lease name of its task, also of a task that nobody holds any more
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1...]: 15 for each success: the task's id; the whole lease name; sha256 of the stored shard; sha256 of the index object; molecules
--          that are ok; molecules that are bad; bytes downloaded; bytes uploaded; and in ms, '' for what did not take place: queued,
--          leased, staged, engine started, engine ended, upload started, upload ended
-- returns: {'answers', answer...}; an answer is a list: ok, also when it is repeated; cancelled; or lost and the task's state. {'gone'}
-- transitions: leased -> succeeded, pending -> succeeded, delayed -> succeeded, waiting -> pending (promote)

local WIDTH = 15

if not tick() then
  return { 'gone' }
end
local sums, finished, failed, promoted = {}, {}, {}, 0

-- The lowest power of the square root of 2, rounded up, that is not below a duration.
local function bucket_of(ms)
  local mantissa, exponent = math.frexp(math.max(1, ms))
  local half = math.ceil(2 ^ (exponent - 0.5))
  return mantissa == 0.5 and 2 ^ (exponent - 1) or ms <= half and half or 2 ^ exponent
end

local function record(phase, from, to)
  if from and to then
    local ms = math.max(0, to - from)
    local sum = sums[phase] or { count = 0, sum_ms = 0 }
    local bucket = bucket_of(ms)
    sum[bucket] = (sum[bucket] or 0) + 1
    sum.count = sum.count + 1
    sum.sum_ms = sum.sum_ms + ms
    sums[phase] = sum
  end
end

-- Each moment as the time since the one before.
local function timings_ms(at)
  local steps, latest = {}, 0
  for i = 1, 7 do
    steps[i] = at[i] and string.format('%d', math.max(0, at[i] - latest)) or '-'
    latest = math.max(latest, at[i] or 0)
  end
  steps[8] = string.format('%d', math.max(0, now - latest))
  return table.concat(steps, '+')
end

local function succeed(id, name, first)
  local shard, index, ok, bad, down, up = unpack(ARGV, first + 2, first + 7)
  local at = {}
  for i = 1, 7 do
    at[i] = tonumber(ARGV[first + 7 + i])
  end
  record('queue', at[1], at[2])
  record('stage', at[2], at[3])
  record('engine', at[4], at[5])
  record('upload', at[6], at[7])
  record('total', at[2], now)
  set(id, 'shard_sha256', shard)
  set(id, 'index_sha256', index)
  set(id, 'molecules_ok', ok)
  if tonumber(bad) > 0 then
    set(id, 'molecules_bad', bad)
  end
  set(id, 'timings_ms', timings_ms(at))
  -- Only an attempt that failed has left last lines.
  if field(id, 'former') or field(id, 'ending') then
    failed[#failed + 1] = id
  end
  set(id, 'bytes', down .. ' ' .. up)
  for _, transient in ipairs({ 'queued_at', 'ending', 'reason' }) do
    set(id, transient, false)
  end
  add('molecules_ok', ok)
  add('molecules_bad', bad)
  add('bytes', up)
  event('complete', id, 'lease', name, 'molecules', tonumber(ok) + tonumber(bad))
  finished[#finished + 1] = id
  local last = last_if(id, 'waiting')
  if last and let_be(last) == 'pending' then
    move(last, 'waiting', 'pending', 'head')
    event('promote', last)
    promoted = promoted + 1
  end
end

local reply = { 'answers' }
for first = 1, #ARGV, WIDTH do
  local id, name = ARGV[first], ARGV[first + 1]
  local state, lease = state_and_lease(id)
  local answer = 'ok'
  if lease ~= name then
    answer = 'lost'
  elseif state == 'leased' then
    move(id, 'leased', 'succeeded')
    succeed(id, name, first)
  elseif state == 'pending' then
    move(id, 'pending', 'succeeded')
    succeed(id, name, first)
  elseif state == 'delayed' then
    move(id, 'delayed', 'succeeded')
    succeed(id, name, first)
  elseif state == 'cancelled' then
    answer = 'cancelled'
  elseif state ~= 'succeeded' then
    answer = 'lost'
  end
  reply[#reply + 1] = answer == 'lost' and { answer, state } or { answer }
end
wake(promoted)
call_many('HDEL', 'inputs', finished)
call_many('HDEL', 'tails', failed)
for phase, sum in pairs(sums) do
  add_to_fields('stats:' .. phase, sum)
end
return finish(reply)
