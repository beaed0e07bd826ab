-- Take up to `limit` due deliveries of a lane under a lease with a fencing token.
-- ARGV: lane, channel, limit, now, lease (ms), most channels of a lane, now by the queue's own clock, which leases go by.
-- Returns a list of {delivery id, token, recipients, meta, and unless all of this is 0 or '': attempts, possible duplicate,
-- rescheduled or '', those recipients that are on the suppression list, as "0:bounce,1:manual"}. Contents the caller fetches
-- itself: every string that a script sees, Lua hashes from end to end, and it is copied four times.
-- What comes to a lane where nobody is, accept.lua may claim at once, with the same effect.
local lane, channel, limit, now, lease, most, clock = unpack(ARGV)
local channels = key('chan', lane)
redis.call('ZREMRANGEBYSCORE', channels, '-inf', clock)
if not redis.call('ZSCORE', channels, channel) and redis.call('ZCARD', channels) >= tonumber(most) then return {} end
local due = redis.call('ZRANGEBYSCORE', key('lane', lane), '-inf', now, 'LIMIT', 0, limit)
if #due == 0 then
  redis.call('ZREM', channels, channel)
  return {}
end
redis.call('ZADD', channels, clock + lease, channel)
redis.call('ZREMRANGEBYRANK', key('lane', lane), 0, #due - 1)
local claims, leases, states, none = {}, {}, { sending = 0 }, {}
local any_suppressed = redis.call('EXISTS', key('suppressed')) == 1
for _, did in ipairs(due) do
  local id, k = split(did)
  local m = key('m', id)
  local f, past = redis.call('HMGET', m, 'meta', 'state:' .. k, 'to:' .. k, 'token:' .. k), none
  if f[4] or f[2] == 'scheduled' then -- else nothing has happened to it yet, as with nearly all mail
    past = redis.call('HMGET', m, 'attempts:' .. k, 'dup:' .. k, 'error:' .. k, 'scheduled_at')
  end
  if f[1] then
    local token, n = tonumber(f[4] or '0') + 1, size(f[3])
    redis.call('HSET', m, 'state:' .. k, 'sending', 'owner:' .. k, channel, 'token:' .. k, token)
    states[f[2]] = (states[f[2]] or 0) - n
    states.sending = states.sending + n
    if f[2] == 'deferred' then blame(past[3], -n) end
    leases[#leases + 1] = clock + lease
    leases[#leases + 1] = did
    local claim = { did, token, f[3], f[1] }
    local known = any_suppressed and suppressed(f[1], lane, f[3]) or ''
    if past ~= none or known ~= '' then
      claim[5], claim[6], claim[7], claim[8] = past[1] or '0', past[2] or '0', past[4] or '', known
    end
    claims[#claims + 1] = claim
  end
end
many('ZADD', key('leases'), leases)
for state, n in pairs(states) do
  if n ~= 0 then count(state, n) end
end
relist(lane)
return claims
