-- Record that tracked mail was opened, or its links followed.
-- ARGV: most of a kind per message while its counter lasts, how long that is (s), number of hits, then for each: message id,
-- kind (opened or clicked), event. Returns for each 1, or 0 for one over the limit.
-- The first write is one that maxmemory refuses: mail needs the memory more.
local replies = {}

local function react(id, kind) -- so that its last_event shows; returns the id if the queue still has the message whole
  local m = key('m', id)
  local f = redis.call('HMGET', m, 'n', 'reaction', 'brief')
  if f[1] then
    if kind == 'clicked' or not f[2] then redis.call('HSET', m, 'reaction', kind) end
    return id
  end
  local place, letter, rest = string.match(f[3] or '', '^(%d+:%a*:)(%a?)(:%d*)$')
  if place and (letter == '' or (letter == 'o' and kind == 'clicked')) then
    redis.call('HSET', m, 'brief', place .. after_letters[kind] .. rest)
  end
  return ''
end

for i = 1, tonumber(ARGV[3]) do
  local id, kind, event = ARGV[1 + 3 * i], ARGV[2 + 3 * i], ARGV[3 + 3 * i]
  local counter = key('hits', id)
  local n = redis.call('HINCRBY', counter, kind, 1)
  if n == 1 then redis.call('EXPIRE', counter, ARGV[2]) end
  replies[i] = 0
  if n <= tonumber(ARGV[1]) then
    replies[i] = 1
    record(react(id, kind), event)
  end
end
return replies
