-- purpose: add to the live output of a task that is held under this lease name; a worker does so only while somebody follows the task
-- KEYS[1]: molfleet:{R}:run
-- ARGV[1]: the task's id
-- ARGV[2]: the whole lease name
-- ARGV[3]: the log that the output goes to, <step>.<stream>
-- ARGV[4]: where in that log it begins, in bytes
-- ARGV[5]: the output
-- returns: {'ok'}, also when it is repeated; {'cancelled'}; {'lost', state}; {'gone'}
-- transitions: none

local PIECES_MAX = 64
local KEEP_S = 60

if not tick() then
  return { 'gone' }
end
local id, name = ARGV[1], ARGV[2]
local refused = refusal(id, name)
if refused then
  return finish(refused)
end
local piece = {
  'task', id, 'lease', name, 'log', ARGV[3], 'from', ARGV[4], 'text', ARGV[5],
}
local last = call('XREVRANGE', key('live'), '+', '-', 'COUNT', 1)[1]
if not last or table.concat(last[2], '\n') ~= table.concat(piece, '\n') then
  call('XADD', key('live'), 'MAXLEN', PIECES_MAX, '*', unpack(piece))
  call('EXPIRE', key('live'), KEEP_S)
end
return finish({ 'ok' })
