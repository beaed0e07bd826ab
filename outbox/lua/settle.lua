-- Record how an attempt ended. A token that is not the newest, or a lease that was taken back, changes nothing.
-- ARGV: delivery id, token, now, bucket, event, complaint event or '', next due or '', error, in doubt (0 or 1), number
--       of outcomes, then recipient, state, outcome JSON for each; number of recipients to suppress from now on, then
--       recipient and value for each. Returns 1, or 0 for a stale token.
-- The first write is one that maxmemory allows: work can always be finished.
local did, token, now, bucket = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local id, k = split(did)
local m = key('m', id)
local f = redis.call('HMGET', m, 'token:' .. k, 'state:' .. k, 'lane:' .. k)
if f[1] ~= token or f[2] ~= 'sending' then return 0 end

redis.call('ZREM', key('leases'), did)
local again = {}
local ended = 0
for at = 11, 11 + 3 * (tonumber(ARGV[10]) - 1), 3 do
  local recipient, state = ARGV[at], ARGV[at + 1]
  redis.call('HSET', m, 'r:' .. recipient, ARGV[at + 2])
  move('sending', state, 1)
  if state == 'deferred' then again[#again + 1] = recipient else ended = ended + 1 end
end
if #again > 0 then
  if ended > 0 then redis.call('HSET', m, 'partly', '1') end
  redis.call('HSET', m, 'state:' .. k, 'deferred', 'to:' .. k, table.concat(again, ','), 'error:' .. k, ARGV[8], 'dup:' .. k, ARGV[9])
  redis.call('HINCRBY', m, 'attempts:' .. k, 1)
  blame(ARGV[8], #again)
  enlist(f[3], did, ARGV[7])
else
  redis.call('HSET', m, 'state:' .. k, 'ended', 'to:' .. k, '', 'error:' .. k, '')
  finish(id, now)
end
if ended > 0 then flow('out', bucket, f[3], ended) end
record(id, ARGV[5])
if ARGV[6] ~= '' then
  redis.call('HSET', m, 'complained', '1')
  record(id, ARGV[6])
end
local after = 11 + 3 * ARGV[10]
if tonumber(ARGV[after]) > 0 then
  local meta = redis.call('HGET', m, 'meta')
  for at = after + 1, #ARGV, 2 do
    suppress(addresses(meta, f[3], ARGV[at])[1], ARGV[at + 1], now)
  end
end
return 1
