-- Take what clients gave, each entry all or nothing. The first write is one that maxmemory refuses, so a full queue takes
-- nothing at all.
-- ARGV: lease (ms), most of a claim, the queue's clock less the caller's (ms), number of entries, now, bucket,
--       all contents in one piece, then for each entry: idempotency hash or '', behind a hash its value and its
--       ttl (ms), number of groups, then for each group: number of messages, what they have in common (state, created (ms),
--       number of deliveries, then for each delivery lane, due, recipients "0,1"), and for each message id, meta, size of
--       content.
-- Contents come in one piece because the server reads 16 KB of a call at a time and goes round once for each, with a flush
-- to the disk if others write meanwhile; but an argument of 32 KB or more it reads to its end.
-- Returns for each entry {'stored', new messages} or {'replayed', value of the key's first use}. A known id is left as it is.
-- What entries have in common is written once, since most of what a call costs is the number of commands in it; next comes
-- the number of words in a command, and of strings that are made.
local argv = ARGV
local lease, limit, ahead, calls, now, bucket, octets = unpack(argv, 1, 7)
local events, message, content = key('events'), key('m', ''), key('c', '')
local replies, uses, keeps, seen, at, read = {}, {}, {}, {}, 8, 0
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

local function only_lane() -- that all of it goes to at once, if it is one
  local lane, group
  for nth = 1, #fresh do
    local g = groups[nth]
    if g ~= group then
      if argv[g + 1] ~= 'queued' or argv[g + 3] ~= '1' or lane and lane ~= argv[g + 4] then return end
      lane, group = argv[g + 4], g
    end
  end
  return lane
end

-- A channel that is at the lane claims until it finds nothing, so nobody need be called for it. One that has not claimed for
-- a while may have died at its place. Where nobody is and nothing waits, a channel without work takes all of it at once: so
-- it is claimed before it could be in the lane.
local sole, clock, served, taker = only_lane(), now + ahead, false, nil
if sole then
  local newest = tonumber(redis.call('ZREVRANGE', key('chan', sole), 0, 0, 'WITHSCORES')[2] or '0')
  served = newest >= clock + lease - 1000
  if newest < clock and #fresh <= tonumber(limit) and redis.call('ZCARD', key('lane', sole)) == 0 then
    taker = redis.call('ZRANGEBYSCORE', key('idle'), clock, '+inf', 'LIMIT', 0, 1)[1]
  end
end

local index, contents, states, lanes, flowing = {}, {}, {}, {}, {}
local fields = { 'meta', '', 'live', '', 'n', '', 'first', '', 'lane:0', '', 'to:0', '', 'state:0', '' } -- of one message
local leases, given, any_suppressed = {}, { '', sole }, taker and redis.call('EXISTS', key('suppressed')) == 1
local group, n, used, number = 0, 0, 0, 0
if #fresh > 0 then number = redis.call('INCRBY', key('seq'), #fresh) - #fresh end

local function give(did, to, meta, body) -- to the taker, as claim.lua would, behind its content
  leases[#leases + 1], leases[#leases + 2] = clock + lease, did
  local known = any_suppressed and suppressed(meta, sole, to) or ''
  local claim = known == '' and { '5', body, did, '1', to, meta } or { '9', body, did, '1', to, meta, '0', '0', '', known }
  for _, word in ipairs(claim) do given[#given + 1] = word end
end

for nth, a in ipairs(fresh) do
  local id, meta, g = argv[a], argv[a + 1], groups[nth]
  local state, created = taker and 'sending' or argv[g + 1], argv[g + 2]
  if g ~= group then -- else all that is the same stands there since the message before
    group, n = g, tonumber(argv[g + 3])
    fields[4], fields[6] = argv[g + 3], argv[g + 3]
    for k = 0, n - 1 do
      local f, d = 9 + 6 * k, g + 4 + 3 * k
      if k > 0 then fields[f], fields[f + 2], fields[f + 4] = 'lane:' .. k, 'to:' .. k, 'state:' .. k end
      fields[f + 1], fields[f + 3], fields[f + 5] = argv[d], argv[d + 2], state
    end
    used = 8 + 6 * n
    if taker then
      fields[used + 1], fields[used + 2], fields[used + 3], fields[used + 4] = 'owner:0', taker, 'token:0', 1
      used = used + 4
    end
  end
  number = number + 1
  redis.call('XADD', events, number, 'e',
    '{"kind":"accepted","at":' .. created .. ',"id":"' .. id .. '","message":' .. meta .. '}')
  contents[2 * nth - 1] = content .. id
  contents[2 * nth] = string.sub(octets, skipped[nth] + 1, skipped[nth] + argv[a + 2])
  index[2 * nth - 1], index[2 * nth] = created, id
  fields[2], fields[8] = meta, number
  many('HSET', hashes[nth], fields, used)
  for k = 0, n - 1 do
    local lane, due, to = argv[g + 4 + 3 * k], argv[g + 5 + 3 * k], argv[g + 6 + 3 * k]
    local did, recipients = id .. '/' .. (k == 0 and '0' or k), size(to)
    if taker then
      give(did, to, meta, contents[2 * nth])
    else
      local waits = lanes[lane]
      if not waits then
        waits = { due = due }
        lanes[lane] = waits
      end
      waits[#waits + 1], waits[#waits + 2] = due, did
      if due ~= waits.due and tonumber(due) < tonumber(waits.due) then waits.due = due end
    end
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
if taker then
  local lengths = {} -- of the words that follow: "3,12;" and the words in one piece
  for i = 2, #given do lengths[i - 1] = #given[i] end
  given[1] = table.concat(lengths, ',') .. ';'
  redis.call('ZREM', key('idle'), taker)
  redis.call('ZADD', key('chan', sole), clock + lease, taker)
  many('ZADD', key('leases'), leases)
  redis.call('LPUSH', key('given', taker), table.concat(given))
  redis.call('PEXPIRE', key('given', taker), lease)
elseif #fresh > 0 and not served then
  wake(sole)
end
return replies
