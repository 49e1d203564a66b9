-- Everything that Redis holds, as text: for each field, member, list and entry of a stream its name and its value.
-- ARGV[1]: the prefix of the run's keys, which names leave out; a key without it is shown whole
-- ARGV[2]: the id of the last event that was seen before; only later ones are shown
-- returns: {the time in ms, the id of the last event now, the text}; the text has a unit separator after each name and a record separator
--          after each value

local prefix, last = ARGV[1], ARGV[2]
local text = {}
local function put(name, value)
  text[#text + 1] = name .. '\31' .. value .. '\30'
end
for _, key in ipairs(redis.call('KEYS', '*')) do
  local name = string.sub(key, 1, #prefix) == prefix and string.sub(key, #prefix + 1) or key
  if redis.call('PTTL', key) > 0 then
    put(name .. ' expires', 'yes')
  end
  local type = redis.call('TYPE', key).ok
  if type == 'list' then
    put(name, table.concat(redis.call('LRANGE', key, 0, -1), ' '))
  elseif type == 'stream' then
    local is_events = name == 'events'
    for i, entry in ipairs(redis.call('XRANGE', key, is_events and '(' .. last or '-', '+')) do
      put(string.format('%s %03d', name, i), table.concat(entry[2], ' '))
      last = is_events and entry[1] or last
    end
  elseif type == 'hash' or type == 'zset' then
    local pairs = type == 'hash' and redis.call('HGETALL', key) or redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #pairs, 2 do
      put(name .. ' ' .. pairs[i], pairs[i + 1])
    end
  else
    put(name, redis.call('GET', key))
  end
end
local time = redis.call('TIME')
return { time[1] * 1000 + math.floor(time[2] / 1000), last, table.concat(text) }
