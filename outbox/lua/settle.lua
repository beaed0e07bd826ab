-- Record how attempts ended. A token that is not the newest, or a lease that was taken back, changes nothing.
-- ARGV: number of attempts, then for each: delivery id, token, now, bucket, event, complaint event or '', next due or '', error,
--       in doubt (0 or 1), number of outcomes, then recipient, state, outcome JSON for each; number of recipients to suppress
--       from now on, then recipient and value for each. Returns for each attempt 1, or 0 for a stale token.
-- The first write is one that maxmemory allows: work can always be finished. What many attempts have in common is
-- written once, since most of what a call costs is the number of commands in it.
local replies, ours, taken, leases, events, at = {}, {}, {}, {}, 0, 2
for i = 1, tonumber(ARGV[1]) do
  local did, outcomes = ARGV[at], tonumber(ARGV[at + 9])
  local id, k = split(did)
  local m = key('m', id)
  local f = redis.call('HMGET', m, 'token:' .. k, 'state:' .. k, 'lane:' .. k, 'first')
  replies[i] = 0
  if f[1] == ARGV[at + 1] and f[2] == 'sending' and not taken[did] then
    replies[i] = 1
    taken[did] = true
    leases[#leases + 1] = did
    ours[#ours + 1] = { at = at, did = did, id = id, k = k, m = m, lane = f[3], first = tonumber(f[4] or 'inf'), outcomes = outcomes }
    events = events + (ARGV[at + 5] == '' and 1 or 2)
  end
  at = at + 11 + 3 * outcomes + 2 * ARGV[at + 10 + 3 * outcomes]
end
if events == 0 then return replies end

many('ZREM', key('leases'), leases)
local number = redis.call('INCRBY', key('seq'), events) - events
local archived = tonumber(redis.call('GET', key('archived')) or '0')
local states, flows, over = { sending = 0 }, {}, {}

local function append(event)
  number = number + 1
  redis.call('XADD', key('events'), number .. '-0', 'e', event)
end

for _, one in ipairs(ours) do
  local a, k, m = one.at, one.k, one.m
  local now, bucket, complaint, err = ARGV[a + 2], ARGV[a + 3], ARGV[a + 5], ARGV[a + 7]
  local again, ended, fields = {}, 0, {}
  for o = a + 10, a + 7 + 3 * one.outcomes, 3 do
    local recipient, state = ARGV[o], ARGV[o + 1]
    fields[#fields + 1] = 'r:' .. recipient
    fields[#fields + 1] = ARGV[o + 2]
    states.sending = states.sending - 1
    states[state] = (states[state] or 0) + 1
    if state == 'deferred' then again[#again + 1] = recipient else ended = ended + 1 end
  end
  append(ARGV[a + 4])
  if complaint ~= '' then
    append(complaint)
    redis.call('HSET', m, 'complained', '1')
  end
  if #again > 0 then
    if ended > 0 then redis.call('HSET', m, 'partly', '1') end
    redis.call('HSET', m, 'last', number, 'state:' .. k, 'deferred', 'to:' .. k, table.concat(again, ','), 'error:' .. k, err,
      'dup:' .. k, ARGV[a + 8], unpack(fields))
    redis.call('HINCRBY', m, 'attempts:' .. k, 1)
    blame(err, #again)
    enlist(one.lane, one.did, ARGV[a + 6])
  else
    redis.call('HSET', m, 'last', number, 'state:' .. k, 'ended', 'to:' .. k, '', 'error:' .. k, '', unpack(fields))
    if redis.call('HINCRBY', m, 'live', -1) <= 0 then -- the last of its deliveries: its content may go, once it is archived
      over[#over + 1] = now
      over[#over + 1] = one.id
      if one.first <= archived then redis.call('UNLINK', key('c', one.id)) end
    end
  end
  if ended > 0 then
    local out = flows[bucket] or {}
    flows[bucket] = out
    out[one.lane] = (out[one.lane] or 0) + ended
  end
end
many('ZADD', key('ended'), over)
for state, n in pairs(states) do
  if n ~= 0 then count(state, n) end
end
for bucket, lanes in pairs(flows) do
  for lane, n in pairs(lanes) do flow('out', bucket, lane, n) end
end
for _, one in ipairs(ours) do -- last, since each tells an event of its own
  local bounced = one.at + 10 + 3 * one.outcomes
  for b = bounced + 1, bounced + 2 * ARGV[bounced], 2 do
    suppress(addresses(redis.call('HGET', one.m, 'meta'), one.lane, ARGV[b])[1], ARGV[b + 1], ARGV[one.at + 2])
  end
end
return replies
