-- Take contents out of memory, and leave of each ended message only what finds it in the archive again.
-- ARGV: archived number, how many to skip, limit. Returns {compacted, looked at}.
-- The first write is one that maxmemory allows: this is what makes room.
local archived = tonumber(ARGV[1])
local found = redis.call('ZRANGE', key('ended'), ARGV[2], ARGV[2] + ARGV[3] - 1, 'WITHSCORES')
local compacted = 0

local function letters(f) -- the first letter of each recipient's state, in order
  local states = {}
  for name, value in pairs(f) do
    local recipient = string.match(name, '^r:(%d+)$')
    if recipient then states[tonumber(recipient)] = string.match(value, '^%["(%a)') end
  end
  for k = 0, tonumber(f.n) - 1 do -- those that were cancelled have no outcome, or an older one
    for recipient in string.gmatch(f['to:' .. k] or '', '%d+') do
      states[tonumber(recipient)] = string.sub(f['state:' .. k], 1, 1)
    end
  end
  local word = ''
  for recipient = 0, #states do word = word .. (states[recipient] or '') end
  return word
end

for at = 1, #found, 2 do
  local id = found[at]
  local m = key('m', id)
  local flat, f = redis.call('HGETALL', m), {}
  for i = 1, #flat, 2 do f[flat[i]] = flat[i + 1] end
  if tonumber(f.last or '0') <= archived then
    redis.call('UNLINK', key('c', id))
    redis.call('ZREM', key('ended'), id)
    if f.first then
      redis.call('UNLINK', m)
      local after = f.complained and 'c' or after_letters[f.reaction] or ''
      local brief = table.concat({ f.first, letters(f), after, f.scheduled_at or '' }, ':')
      redis.call('HSET', m, 'brief', brief)
    end
    if f.n then redis.call('ZADD', key('recent'), found[at + 1], id) end
    compacted = compacted + 1
  end
end
return { compacted, #found / 2 }
