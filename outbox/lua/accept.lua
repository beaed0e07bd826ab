-- Take what clients gave, each entry all or nothing. The first write is one that maxmemory refuses, so a full queue takes
-- nothing at all.
-- ARGV: lease (ms), number of entries, then for each: now, bucket, idempotency hash or '', its value, its ttl (ms), number of messages,
--       then for each message id, meta, content, state, created (ms), number of deliveries, then for each delivery lane, due,
--       recipients "0,1".
-- Returns for each entry {'stored', new messages} or {'replayed', value of the key's first use}. A known id is left as it is.
-- What entries have in common is written once, since most of what a call costs is the number of commands in it.
local replies, fresh, uses, seen, at = {}, {}, {}, {}, 3

local function skip(from) -- to the next message
  return from + 6 + 3 * tonumber(ARGV[from + 5])
end

for i = 1, tonumber(ARGV[2]) do
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
  local only = states.queued and not next(lanes, lane)
  -- A channel that is at the lane claims until it finds nothing, so nobody need be called for it. One that has not claimed
  -- for a while may have died at its place.
  local newly = tonumber(ARGV[3]) + tonumber(ARGV[1]) - 1000
  if not only or redis.call('ZCOUNT', key('chan', lane), newly, '+inf') == 0 then wake(only and lane) end
end
return replies
