-- Record how attempts ended. A token that is not the newest, or a lease that was taken back, changes nothing.
-- ARGV: number of attempts, bucket, then for each: delivery id, token, now, event, number of outcomes, then recipient, state,
--       outcome JSON for each; then '' if that is all, else anything, complaint event or '', next due or '', error, in doubt
--       (0 or 1), number of recipients to suppress from now on, then recipient and value for each.
-- Returns for each attempt 1, or 0 for a stale token.
-- The first write is one that maxmemory allows: work can always be finished. What many attempts have in common is
-- written once, since most of what a call costs is the number of commands in it; next comes the number of words in a
-- command, and of strings that are made.
local argv = ARGV
local replies, taken, events, at = {}, {}, 0, 3
local leases, places, rests, names, ids, hashes, lanes, firsts, lives = {}, {}, {}, {}, {}, {}, {}, {}, {} -- of what counts
local known_names, left, message, stream = {}, {}, key('m', ''), key('events')

local function name(k) -- a delivery's fields
  known_names[k] = { k = k, token = 'token:' .. k, state = 'state:' .. k, lane = 'lane:' .. k, to = 'to:' .. k }
  return known_names[k]
end

for i = 1, tonumber(argv[1]) do
  local did, rest = argv[at], at + 5 + 3 * argv[at + 4]
  local more = argv[rest] ~= ''
  local id, k = split(did)
  local m, named = message .. id, known_names[k] or name(k)
  local f = redis.call('HMGET', m, named.token, named.state, named.lane, 'first', 'live')
  replies[i] = 0
  if f[1] == argv[at + 1] and f[2] == 'sending' and not taken[did] then
    replies[i] = 1
    taken[did] = true
    local nth = #leases + 1
    leases[nth], places[nth], rests[nth], names[nth], ids[nth], hashes[nth] = did, at, more and rest, named, id, m
    lanes[nth], firsts[nth], lives[nth] = f[3], f[4] or 'inf', f[5] or '1'
    events = events + (more and argv[rest + 1] ~= '' and 2 or 1)
  end
  at = more and rest + 6 + 2 * argv[rest + 5] or rest + 1
end
if events == 0 then return replies end

many('ZREM', key('leases'), leases)
local number = redis.call('INCRBY', key('seq'), events) - events
local archived = tonumber(redis.call('GET', key('archived')) or '0')
local states, flows, over, sent = { sending = 0 }, {}, {}, 0
local fields = { 'last', '', '', '', '', '', '', '' } -- of one message, each time anew

local function append(event)
  number = number + 1
  redis.call('XADD', stream, number, 'e', event)
end

for nth, a in ipairs(places) do
  local m, named, rest = hashes[nth], names[nth], rests[nth]
  local used, ended, again = 8, 0, nil
  for o = a + 5, a + 2 + 3 * argv[a + 4], 3 do
    local recipient, state = argv[o], argv[o + 1]
    fields[used + 1], fields[used + 2] = 'r:' .. recipient, argv[o + 2]
    used = used + 2
    states[state] = (states[state] or 0) + 1
    if state == 'deferred' then
      again = again or {}
      again[#again + 1] = recipient
    else
      ended = ended + 1
    end
  end
  sent = sent + (used - 8) / 2
  append(argv[a + 3])
  if rest and argv[rest + 1] ~= '' then
    append(argv[rest + 1])
    redis.call('HSET', m, 'complained', '1')
  end
  fields[2], fields[3], fields[5] = number, named.state, named.to
  if again then
    local k, err = named.k, argv[rest + 3]
    if ended > 0 then redis.call('HSET', m, 'partly', '1') end
    fields[4], fields[6], fields[7], fields[8] = 'deferred', table.concat(again, ','), 'error:' .. k, err
    fields[used + 1], fields[used + 2] = 'dup:' .. k, argv[rest + 4]
    many('HSET', m, fields, used + 2)
    redis.call('HINCRBY', m, 'attempts:' .. k, 1)
    blame(err, #again)
    enlist(lanes[nth], leases[nth], argv[rest + 2])
  else
    local live = 0
    if lives[nth] ~= '1' then -- two of its deliveries may end in one call
      live = (left[m] or lives[nth]) - 1
      left[m] = live
    end
    fields[4], fields[6], fields[7], fields[8] = 'ended', '', 'live', live
    many('HSET', m, fields, used)
    if live <= 0 then -- the last of its deliveries: its content may go, once it is archived
      over[#over + 1], over[#over + 2] = argv[a + 2], ids[nth]
      if tonumber(firsts[nth]) <= archived then redis.call('UNLINK', key('c', ids[nth])) end
    end
  end
  if ended > 0 then
    local lane = lanes[nth]
    flows[lane] = (flows[lane] or 0) + ended
  end
end
many('ZADD', key('ended'), over)
states.sending = states.sending - sent
for state, n in pairs(states) do
  if n ~= 0 then count(state, n) end
end
for lane, n in pairs(flows) do flow('out', argv[2], lane, n) end
for nth, a in ipairs(places) do -- last, since each tells an event of its own
  local rest = rests[nth]
  if rest then
    for b = rest + 6, rest + 4 + 2 * argv[rest + 5], 2 do
      suppress(addresses(redis.call('HGET', hashes[nth], 'meta'), lanes[nth], argv[b])[1], argv[b + 1], argv[a + 2])
    end
  end
end
return replies
