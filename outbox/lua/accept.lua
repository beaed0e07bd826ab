-- Take what clients gave, each entry all or nothing. The first write is one that maxmemory refuses, so a full queue takes
-- nothing at all.
-- ARGV: lease (ms), most channels of a lane, most of a claim, the queue's clock less the caller's (ms), number of entries,
--       then for each: now, bucket, idempotency hash or '', its value, its ttl (ms), number of messages,
--       then for each message id, meta, content, state, created (ms), number of deliveries, then for each delivery lane, due,
--       recipients "0,1".
-- Returns for each entry {'stored', new messages} or {'replayed', value of the key's first use}. A known id is left as it is.
-- What entries have in common is written once, since most of what a call costs is the number of commands in it.
local replies, fresh, uses, seen, at = {}, {}, {}, {}, 6

local function skip(from) -- to the next message
  return from + 6 + 3 * tonumber(ARGV[from + 5])
end

for i = 1, tonumber(ARGV[5]) do
  local bucket, idem, value, messages = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 5])
  local first_use = idem ~= '' and (uses[idem] or redis.call('GET', key('idem', idem)))
  local before = #fresh
  local message = at + 6
  for _ = 1, messages do
    local id = ARGV[message]
    if not first_use and not seen[id] and redis.call('EXISTS', key('m', id)) == 0 then
      seen[id] = true
      fresh[#fresh + 1] = { message, bucket }
    end
    message = skip(message)
  end
  if first_use then
    replies[i] = { 'replayed', first_use }
  else
    if idem ~= '' then uses[idem] = value end
    replies[i] = { 'stored', #fresh - before, idem, value, ARGV[at + 4] }
  end
  at = message
end

local function give(lane, channel, clock) -- claim it for a channel that waits for work
  local lease, most, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
  redis.call('ZREM', key('idle'), channel)
  local words = { lane }
  for _, claim in ipairs(take(lane, channel, limit, ARGV[6], lease, most, clock)) do
    for _, word in ipairs(claim) do words[#words + 1] = word end
  end
  for i, word in ipairs(words) do words[i] = #tostring(word) .. ':' .. word end
  redis.call('LPUSH', key('given', channel), table.concat(words))
  redis.call('PEXPIRE', key('given', channel), lease)
end

-- A channel that is at the lane claims until it finds nothing, so nobody need be called for it. One that has not claimed for
-- a while may have died at its place. Where nobody is and nothing waited, a channel without work is given it at once.
local function call(lane, new)
  local channels, clock = key('chan', lane), ARGV[6] + ARGV[4]
  if redis.call('ZCOUNT', channels, clock + ARGV[1] - 1000, '+inf') > 0 then return end
  local idle = redis.call('ZCOUNT', channels, clock, '+inf') == 0 and redis.call('ZCARD', key('lane', lane)) == new
    and redis.call('ZRANGEBYSCORE', key('idle'), clock, '+inf', 'LIMIT', 0, 1)[1]
  if idle then give(lane, idle, clock) else wake(lane) end
end

local index, states, lanes, flows = {}, {}, {}, {}
local number = 0
if #fresh > 0 then number = redis.call('INCRBY', key('seq'), #fresh) - #fresh end

for _, one in ipairs(fresh) do
  local a, bucket = one[1], one[2]
  local id, meta, content, state, created, n = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5]
  number = number + 1
  local event = tostring(number)
  redis.call('XADD', key('events'), event .. '-0', 'e',
    '{"kind":"accepted","at":' .. created .. ',"id":"' .. id .. '","message":' .. meta .. '}')
  redis.call('SET', key('c', id), content)
  local fields = { 'meta', meta, 'live', n, 'n', n, 'first', event, 'last', event }
  for nth = 0, n - 1 do
    local k, lane, due, to = tostring(nth), ARGV[a + 6 + 3 * nth], ARGV[a + 7 + 3 * nth], ARGV[a + 8 + 3 * nth]
    fields[#fields + 1], fields[#fields + 2] = 'lane:' .. k, lane
    fields[#fields + 1], fields[#fields + 2] = 'to:' .. k, to
    fields[#fields + 1], fields[#fields + 2] = 'state:' .. k, state
    local waits, recipients = lanes[lane] or { due = due }, size(to)
    lanes[lane] = waits
    waits[#waits + 1], waits[#waits + 2] = due, id .. '/' .. k
    if tonumber(due) < tonumber(waits.due) then waits.due = due end
    states[state] = (states[state] or 0) + recipients
    local flowing = flows[bucket] or {}
    flows[bucket] = flowing
    flowing[lane] = (flowing[lane] or 0) + recipients
  end
  many('HSET', key('m', id), fields)
  index[#index + 1], index[#index + 2] = created, id
end

many('ZADD', key('index'), index)
for lane, waits in pairs(lanes) do
  many('ZADD', key('lane', lane), waits)
  enter(lane, waits.due)
end
for state, n in pairs(states) do count(state, n) end
for bucket, flowing in pairs(flows) do
  for lane, n in pairs(flowing) do flow('in', bucket, lane, n) end
end
for i, reply in ipairs(replies) do
  if reply[1] == 'stored' then
    if reply[3] ~= '' then redis.call('SET', key('idem', reply[3]), reply[4], 'PX', reply[5]) end
    replies[i] = { 'stored', reply[2] }
  end
end
if #fresh > 0 then
  local lane = next(lanes)
  if states.queued and not next(lanes, lane) then call(lane, #lanes[lane] / 2) else wake() end
end
return replies
