-- purpose: record stored results that Redis does not know of any more, each only if the task's lease number is still the one that was seen
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1...]: 6 for each result: the task's id; the lease number that was seen, 0 for a task that was never leased; sha256 of the
--          stored shard; sha256 of the index object; molecules that are ok; molecules that are bad
-- returns: {'ok', adopted}; {'gone'}
-- transitions: pending -> succeeded, delayed -> succeeded, waiting -> pending (promote)

local WIDTH = 6

if not run_exists() then
  return { 'gone' }
end
local adopted, promoted = {}, 0

local function adopt(id, first)
  record_result(id, unpack(ARGV, first + 2, first + 5))
  event('adopt', id)
  adopted[#adopted + 1] = id
  local last = last_if(id, 'waiting')
  if last and let_be(last) == 'pending' then
    move(last, 'waiting', 'pending', 'head')
    event('promote', last)
    promoted = promoted + 1
  end
end

for first = 1, #ARGV, WIDTH do
  local id = ARGV[first]
  local state, lease = state_and_lease(id)
  local number = lease and string.match(lease, '^%d+') or '0'
  if number == ARGV[first + 1] and state == 'pending' then
    move(id, 'pending', 'succeeded')
    adopt(id, first)
  elseif number == ARGV[first + 1] and state == 'delayed' then
    move(id, 'delayed', 'succeeded')
    adopt(id, first)
  end
end
wake(promoted)
call_many('HDEL', 'inputs', adopted)
call_many('HDEL', 'checkpoints', adopted)
call_many('HDEL', 'tails', adopted)
return finish({ 'ok', #adopted })
