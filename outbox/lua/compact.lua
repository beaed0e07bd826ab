-- Take contents out of memory, and leave of each ended message only what finds it in the archive again.
-- ARGV: archived number, how many to skip, limit. Returns {compacted, looked at}.
-- The first write is one that maxmemory allows: this is what makes room. What messages have in common is written once,
-- since most of what a call costs is the number of commands in it.
local archived, message, content = tonumber(ARGV[1]), key('m', ''), key('c', '')
local found = redis.call('ZRANGE', key('ended'), ARGV[2], ARGV[2] + ARGV[3] - 1, 'WITHSCORES')
local ids, needless, kept, briefs, recent = {}, {}, {}, {}, {}

local function letters(m) -- the first letter of each recipient's state, in order
  local flat, f, states, word = redis.call('HGETALL', m), {}, {}, ''
  for i = 1, #flat, 2 do
    f[flat[i]] = flat[i + 1]
    local recipient = string.match(flat[i], '^r:(%d+)$')
    if recipient then states[tonumber(recipient)] = string.match(flat[i + 1], '^%["(%a)') end
  end
  for k = 0, tonumber(f.n) - 1 do -- those that were cancelled have no outcome, or an older one
    for recipient in string.gmatch(f['to:' .. k] or '', '%d+') do
      states[tonumber(recipient)] = string.sub(f['state:' .. k], 1, 1)
    end
  end
  for recipient = 0, #states do word = word .. (states[recipient] or '') end
  return word
end

for at = 1, #found, 2 do
  local id = found[at]
  local m = message .. id
  local f = redis.call('HMGET', m, 'last', 'first', 'to:0', 'r:0', 'r:1', 'complained', 'reaction', 'scheduled_at')
  local first, waits, outcome = f[2], f[3], f[4]
  if tonumber(f[1] or '0') <= archived then
    ids[#ids + 1] = id
    needless[#needless + 1] = content .. id
    if first then
      needless[#needless + 1] = m
      local one = waits == '' and outcome and not f[5] -- recipient, as nearly all mail has: every other has an outcome too
      local states = one and string.sub(outcome, 3, 3) or letters(m)
      local after = f[6] and 'c' or after_letters[f[7]] or ''
      kept[#kept + 1], briefs[#briefs + 1] = m, first .. ':' .. states .. ':' .. after .. ':' .. (f[8] or '')
    end
    if waits then recent[#recent + 1], recent[#recent + 2] = found[at + 1], id end -- else only the id was left of it
  end
end
if #ids > 0 then
  redis.call('UNLINK', unpack(needless))
  redis.call('ZREM', key('ended'), unpack(ids))
end
for nth, m in ipairs(kept) do redis.call('HSET', m, 'brief', briefs[nth]) end
many('ZADD', key('recent'), recent)
return { #ids, #found / 2 }
