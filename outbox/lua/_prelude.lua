-- Shared by every script (prepended by outbox/scripts.py). KEYS[1] is the prefix, e.g. {nm}: one hash tag, one slot.
-- Keys: m:<id> message hash, c:<id> content, lane:<lane> waiting work by due time, lanes each lane's next due time,
-- leases claims by expiry, chan:<lane> connections at work, idle channels that wait for work by when they stop, given:<channel>
-- what one of them was given, states and errors counts of recipients, held, index by creation,
-- ended messages by time, recent those of them that are archived and compacted, archived how far events are,
-- events the stream (id <number>-0, numbers consecutive), seq its newest number, in:<t> and out:<t> flow, wake, probe.
-- policy the policy objects by kind/name, policyversion counts their changes, keyused when each API key was last used.
-- generation the mark of this queue: one that was emptied has another. KEYS[2], where given, ends in the mark and the event
-- number that the caller remembers (outbox/generation.py): in a queue that lost its memory nothing is done at all.
-- In a message hash: meta, live, n (deliveries), first and last (its accepted and its newest event), and per delivery k: lane:k to:k state:k token:k
-- attempts:k owner:k error:k (of its last deferral) lost:k dup:k, partly (some recipients ended, others wait); per recipient i: r:i, its last outcome as JSON.
-- hits:<id> counts opens and clicks, for a while; reaction in a message hash: opened or clicked.
-- suppressed address -> JSON, suppressions <id>:<address> by id (outbox/suppression.py), suppressedlast their newest event.
-- Of a compacted message the hash holds only brief (see compact.lua).
local P = KEYS[1]

local function key(name, tail)
  if tail then return P .. ':' .. name .. ':' .. tail end
  return P .. ':' .. name
end

if KEYS[2] then
  local mark, number = string.match(KEYS[2], ':mark:(.*):(%d+)$')
  local generation, seq = unpack(redis.call('MGET', key('generation'), key('seq')))
  if generation ~= mark or tonumber(seq or '0') < tonumber(number) then
    return redis.error_reply('LOST the queue lost its memory: nightmail rebuild queue')
  end
end

local function split(did) -- "<id>/<k>"
  if string.sub(did, -2) == '/0' then return string.sub(did, 1, -3), '0' end -- which is nearly always so, and done sooner
  return string.match(did, '^(.*)/(%d+)$')
end

local function size(csv)
  if #csv < 3 then return 1 end -- which is nearly always so
  local _, commas = string.gsub(csv, ',', '')
  return commas + 1
end

local function many(command, k, words, used) -- a command over any number of words; an even chunk keeps pairs together
  used = used or #words
  for at = 1, used, 1000 do
    redis.call(command, k, unpack(words, at, math.min(at + 999, used)))
  end
end

local function count(state, n)
  redis.call('HINCRBY', key('states'), state, n)
end

local function move(from, to, n)
  count(from, -n)
  count(to, n)
end

local function blame(error, n) -- recipients deferred by this error, for the backlog
  if error and error ~= '' then
    if redis.call('HINCRBY', key('errors'), error, n) <= 0 then redis.call('HDEL', key('errors'), error) end
  end
end

local function wake(lane) -- a worker looks at the due lanes; at this one at once
  if redis.call('LLEN', key('wake')) < 16 then redis.call('LPUSH', key('wake'), lane or '') end
end

local function enter(lane, due) -- the lane has work that is due then
  redis.call('ZADD', key('lanes'), 'LT', due, lane)
end

local function enlist(lane, did, due)
  redis.call('ZADD', key('lane', lane), due, did)
  enter(lane, due)
end

local function relist(lane) -- after work left the lane: its next due time, or none
  local head = redis.call('ZRANGE', key('lane', lane), 0, 0, 'WITHSCORES')
  if #head == 0 then redis.call('ZREM', key('lanes'), lane) else redis.call('ZADD', key('lanes'), head[2], lane) end
end

local function record(id, event)
  local number = redis.call('INCR', key('seq'))
  redis.call('XADD', key('events'), number, 'e', event)
  if id ~= '' then redis.call('HSET', key('m', id), 'last', number) end
  return number
end

local function tell_suppression(address, value, at, was) -- `was`: what is taken off, else 'null'
  local event = string.format(
    '{"kind":"policy_changed","at":%s,"id":"","object":"suppression","name":%s,"value":%s,"was":%s}',
    at, cjson.encode(address), value, was)
  redis.call('SET', key('suppressedlast'), record('', event))
end

local function suppress(address, value, at) -- unless it is suppressed already
  if redis.call('HSETNX', key('suppressed'), address, value) == 0 then return end
  redis.call('ZADD', key('suppressions'), 0, string.match(value, '"id":"([^"]+)"') .. ':' .. address)
  tell_suppression(address, value, at, 'null')
end

local function addresses(meta, lane, recipients) -- as outbox/suppression.py normalises them; recipients "0,1"
  local named, found = cjson.decode(meta).recipients, {}
  for recipient in string.gmatch(recipients, '%d+') do
    found[#found + 1] = string.lower(string.match(named[recipient + 1][1], '^(.*)@') or '') .. '@' .. lane
  end
  return found
end

local after_letters = { opened = 'o', clicked = 'k' } -- in a brief: what came after the delivery

local function flow(name, bucket, lane, n)
  local k = key(name, bucket)
  if redis.call('HINCRBY', k, lane, n) == n then redis.call('EXPIRE', k, 180) end
end

local function finish(id, now) -- one delivery of the message ended; with the last its content may go, once it is archived
  if redis.call('HINCRBY', key('m', id), 'live', -1) > 0 then return end
  redis.call('ZADD', key('ended'), now, id)
  local first = tonumber(redis.call('HGET', key('m', id), 'first') or 'inf')
  if first <= tonumber(redis.call('GET', key('archived')) or '0') then redis.call('UNLINK', key('c', id)) end
end

local function note(kind, id, k, now, reason, duplicate, recipients) -- an event about a lease
  record(id, string.format(
    '{"kind":"%s","at":%s,"id":"%s","delivery":%s,"recipients":[%s],"reason":"%s","possible_duplicate":%s}',
    kind, now, id, k, recipients, reason, tostring(duplicate)))
end

local function give_back(did, now, reason) -- claimed and never tried: due at once, nothing counts
  local id, k = split(did)
  local m = key('m', id)
  local f = redis.call('HMGET', m, 'lane:' .. k, 'to:' .. k)
  redis.call('ZREM', key('leases'), did)
  redis.call('HSET', m, 'state:' .. k, 'queued')
  move('sending', 'queued', size(f[2]))
  enlist(f[1], did, now)
  note('released', id, k, now, reason, false, f[2])
end

local function take_back(did, now, most) -- a lost lease: due at once and flagged, or held after too many
  local id, k = split(did)
  local m = key('m', id)
  local f = redis.call('HMGET', m, 'lane:' .. k, 'to:' .. k)
  redis.call('ZREM', key('leases'), did)
  redis.call('HSET', m, 'dup:' .. k, '1')
  if redis.call('HINCRBY', m, 'lost:' .. k, 1) >= most then
    redis.call('HSET', m, 'state:' .. k, 'held')
    move('sending', 'held', size(f[2]))
    redis.call('ZADD', key('held'), now, did)
    note('held', id, k, now, 'leases_lost', true, f[2])
  else
    redis.call('HSET', m, 'state:' .. k, 'queued')
    move('sending', 'queued', size(f[2]))
    enlist(f[1], did, now)
    note('released', id, k, now, 'lease_lost', true, f[2])
  end
end

local function suppressed(meta, lane, recipients) -- those on the suppression list, as "0:bounce,1:manual"
  local values, found = redis.call('HMGET', key('suppressed'), unpack(addresses(meta, lane, recipients))), {}
  for recipient in string.gmatch(recipients, '%d+') do
    local value = table.remove(values, 1)
    if value then found[#found + 1] = recipient .. ':' .. string.match(value, '"origin":"(%a+)"') end
  end
  return table.concat(found, ',')
end

