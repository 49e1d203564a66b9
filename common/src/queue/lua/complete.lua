-- purpose: record successes, each under the latest lease name of its task, also of a task that nobody holds any more
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1...]: 15 for each success: the task's id; the whole lease name; sha256 of the stored shard; sha256 of the index object; molecules
--          that are ok; molecules that are bad; bytes downloaded; bytes uploaded; the timings up to the last moment before this call;
--          that moment; and the buckets of the phases queue, stage, engine, upload and total, '' for one that did not take place
-- returns: {'answers', answer...}; an answer is a list: ok, also when it is repeated; cancelled; or lost and the task's state. {'gone'}
-- transitions: leased -> succeeded, pending -> succeeded, delayed -> succeeded, waiting -> pending (promote)

local WIDTH = 15
local PHASES = {
  'queue', 'stage', 'engine', 'upload', 'total',
}

if not tick() then
  return { 'gone' }
end
local finished, failed, promoted = {}, {}, 0
local tallies = { {}, {}, {}, {}, {} }

local function succeed(id, name, first)
  local shard, index, ok, bad, down, up, timings, latest = unpack(ARGV, first + 2, first + 9)
  -- Only an attempt that failed has left last lines.
  if field(id, 'former') or field(id, 'ending') then
    failed[#failed + 1] = id
  end
  finished[#finished + 1] = id
  record_result(id, shard, index, ok, bad, 'bytes', down .. ' ' .. up, 'timings_ms', timings .. '+' .. math.max(0, now - latest))
  add('bytes', up)
  for i, tally in ipairs(tallies) do
    local bucket = ARGV[first + 9 + i]
    tally[bucket] = (tally[bucket] or 0) + 1
  end
  event('complete', id, 'lease', name, 'molecules', ok + bad)
end

local reply = { 'answers' }
for first = 1, #ARGV, WIDTH do
  local id, name = ARGV[first], ARGV[first + 1]
  local state, lease = state_and_lease(id)
  local answer = 'ok'
  if lease ~= name then
    answer = 'lost'
  elseif state == 'leased' then
    succeed(id, name, first)
    move(id, 'leased', 'succeeded')
  elseif state == 'pending' then
    succeed(id, name, first)
    move(id, 'pending', 'succeeded')
  elseif state == 'delayed' then
    succeed(id, name, first)
    move(id, 'delayed', 'succeeded')
  elseif state == 'cancelled' then
    answer = 'cancelled'
  elseif state ~= 'succeeded' then
    answer = 'lost'
  end
  local last = field(id, 'state') == 'succeeded' and last_if(id, 'waiting')
  if last and let_be(last) == 'pending' then
    move(last, 'waiting', 'pending', 'head')
    event('promote', last)
    promoted = promoted + 1
  end
  reply[#reply + 1] = answer == 'lost' and { answer, state } or { answer }
end
wake(promoted)
call_many('HDEL', 'inputs', finished)
call_many('HDEL', 'checkpoints', finished)
call_many('HDEL', 'tails', failed)
for i, tally in ipairs(tallies) do
  for bucket, count in pairs(tally) do
    if bucket ~= '' then
      call('HINCRBY', key('stats:' .. PHASES[i]), bucket, count)
    end
  end
end
return finish(reply)
