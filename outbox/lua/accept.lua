-- Take what clients gave, each entry all or nothing. The first write is one that maxmemory refuses, so a full queue takes
-- nothing at all.
-- ARGV: lease (ms), most channels of a lane, most of a claim, the queue's clock less the caller's (ms), number of entries,
--       now, bucket, all contents in one piece, then for each entry: idempotency hash or '', behind a hash its value and its
--       ttl (ms), number of groups, then for each group: number of messages, what they have in common (state, created (ms),
--       number of deliveries, then for each delivery lane, due, recipients "0,1"), and for each message id, meta, size of
--       content.
-- Contents come in one piece because the server reads 16 KB of a call at a time and goes round once for each, with a flush
-- to the disk if others write meanwhile; but an argument of 32 KB or more it reads to its end.
-- Returns for each entry {'stored', new messages} or {'replayed', value of the key's first use}. A known id is left as it is.
-- What entries have in common is written once, since most of what a call costs is the number of commands in it; next comes
-- the number of words in a command, and of strings that are made.
local argv = ARGV
local lease, most, limit, ahead, calls, now, bucket, octets = unpack(argv, 1, 8)
local events, message, content = key('events'), key('m', ''), key('c', '')
local replies, uses, keeps, seen, at, read = {}, {}, {}, {}, 9, 0
-- Of each message that may be new: its place in ARGV, that of its group, its key, its entry, and what lies before its content.
local fresh, groups, hashes, entries, skipped = {}, {}, {}, {}, {}

for i = 1, tonumber(calls) do
  local idem, first_use = argv[at], nil
  if idem ~= '' then
    first_use = uses[idem] or redis.call('GET', key('idem', idem))
    if not first_use then
      uses[idem] = argv[at + 1]
      keeps[#keeps + 1] = at
    end
    at = at + 2
  end
  replies[i] = first_use and { 'replayed', first_use } or { 'stored', 0 }
  at = at + 2
  for _ = 1, tonumber(argv[at - 1]) do
    local group = at
    at = at + 4 + 3 * argv[at + 3]
    for _ = 1, tonumber(argv[group]) do
      local id = argv[at]
      if not first_use and not seen[id] then
        seen[id] = true
        local nth = #fresh + 1
        fresh[nth], groups[nth], hashes[nth], entries[nth], skipped[nth] = at, group, message .. id, replies[i], read
      end
      read = read + argv[at + 2]
      at = at + 3
    end
  end
end

local function give(lane, channel, clock) -- claim it for a channel that waits for work
  redis.call('ZREM', key('idle'), channel)
  local words = { lane }
  for _, claim in ipairs(take(lane, channel, tonumber(limit), now, tonumber(lease), tonumber(most), clock)) do
    words[#words + 1] = #claim
    for _, word in ipairs(claim) do words[#words + 1] = word end
  end
  for i, word in ipairs(words) do words[i] = #tostring(word) .. ':' .. word end
  redis.call('LPUSH', key('given', channel), table.concat(words))
  redis.call('PEXPIRE', key('given', channel), lease)
end

-- A channel that is at the lane claims until it finds nothing, so nobody need be called for it. One that has not claimed for
-- a while may have died at its place. Where nobody is and nothing waited, a channel without work is given it at once.
local function call(lane, new)
  local channels, clock = key('chan', lane), now + ahead
  if redis.call('ZCOUNT', channels, clock + lease - 1000, '+inf') > 0 then return end
  local idle = redis.call('ZCOUNT', channels, clock, '+inf') == 0 and redis.call('ZCARD', key('lane', lane)) == new
    and redis.call('ZRANGEBYSCORE', key('idle'), clock, '+inf', 'LIMIT', 0, 1)[1]
  if idle then give(lane, idle, clock) else wake(lane) end
end

local any_known = false
for first = 1, #hashes, 1000 do
  any_known = any_known or redis.call('EXISTS', unpack(hashes, first, math.min(first + 999, #hashes))) > 0
end
if any_known then -- which is rare: something came again
  local unknown = {}
  for nth, m in ipairs(hashes) do
    if redis.call('EXISTS', m) == 0 then unknown[#unknown + 1] = nth end
  end
  for to, nth in ipairs(unknown) do
    fresh[to], groups[to], hashes[to], entries[to], skipped[to] =
      fresh[nth], groups[nth], hashes[nth], entries[nth], skipped[nth]
  end
  for to = #fresh, #unknown + 1, -1 do fresh[to] = nil end
end

local index, contents, states, lanes, flowing = {}, {}, {}, {}, {}
local fields = { 'meta', '', 'live', '', 'n', '', 'first', '', 'lane:0', '', 'to:0', '', 'state:0', '' } -- of one message
local group, n, number = 0, 0, 0
if #fresh > 0 then number = redis.call('INCRBY', key('seq'), #fresh) - #fresh end

for nth, a in ipairs(fresh) do
  local id, meta, g = argv[a], argv[a + 1], groups[nth]
  local state, created = argv[g + 1], argv[g + 2]
  if g ~= group then -- else all that is the same stands there since the message before
    group, n = g, tonumber(argv[g + 3])
    fields[4], fields[6] = argv[g + 3], argv[g + 3]
    for k = 0, n - 1 do
      local f, d = 9 + 6 * k, g + 4 + 3 * k
      if k > 0 then fields[f], fields[f + 2], fields[f + 4] = 'lane:' .. k, 'to:' .. k, 'state:' .. k end
      fields[f + 1], fields[f + 3], fields[f + 5] = argv[d], argv[d + 2], state
    end
  end
  number = number + 1
  redis.call('XADD', events, number, 'e',
    '{"kind":"accepted","at":' .. created .. ',"id":"' .. id .. '","message":' .. meta .. '}')
  contents[2 * nth - 1] = content .. id
  contents[2 * nth] = string.sub(octets, skipped[nth] + 1, skipped[nth] + argv[a + 2])
  index[2 * nth - 1], index[2 * nth] = created, id
  fields[2], fields[8] = meta, number
  many('HSET', hashes[nth], fields, 8 + 6 * n)
  for k = 0, n - 1 do
    local lane, due, recipients = argv[g + 4 + 3 * k], argv[g + 5 + 3 * k], size(argv[g + 6 + 3 * k])
    local waits = lanes[lane]
    if not waits then
      waits = { due = due }
      lanes[lane] = waits
    end
    waits[#waits + 1], waits[#waits + 2] = due, id .. '/' .. (k == 0 and '0' or k)
    if due ~= waits.due and tonumber(due) < tonumber(waits.due) then waits.due = due end
    states[state] = (states[state] or 0) + recipients
    flowing[lane] = (flowing[lane] or 0) + recipients
  end
  entries[nth][2] = entries[nth][2] + 1
end

for first = 1, #contents, 1000 do
  redis.call('MSET', unpack(contents, first, math.min(first + 999, #contents)))
end
many('ZADD', key('index'), index)
for lane, waits in pairs(lanes) do
  many('ZADD', key('lane', lane), waits)
  enter(lane, waits.due)
end
for state, n in pairs(states) do count(state, n) end
for lane, n in pairs(flowing) do flow('in', bucket, lane, n) end
for _, a in ipairs(keeps) do redis.call('SET', key('idem', argv[a]), argv[a + 1], 'PX', argv[a + 2]) end
if #fresh > 0 then
  local lane = next(lanes)
  if states.queued and not next(lanes, lane) then call(lane, #lanes[lane] / 2) else wake() end
end
return replies
