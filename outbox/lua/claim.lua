-- Take up to `limit` due deliveries of a lane under a lease with a fencing token.
-- ARGV: lane, channel, limit, now, lease (ms), most channels of a lane, now by the queue's own clock, which leases go by.
-- Returns a list of {delivery id, token, recipients, meta, content, and unless all of this is 0 or '': attempts, possible
-- duplicate, rescheduled or '', those recipients that are on the suppression list, as "0:bounce,1:manual"}.
local lane, channel = ARGV[1], ARGV[2]
local limit, now, lease, most = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local clock = tonumber(ARGV[7])
local channels = key('chan', lane)
redis.call('ZREMRANGEBYSCORE', channels, '-inf', clock)
if not redis.call('ZSCORE', channels, channel) and redis.call('ZCARD', channels) >= most then return {} end

local due = redis.call('ZRANGEBYSCORE', key('lane', lane), '-inf', now, 'LIMIT', 0, limit)
if #due == 0 then
  redis.call('ZREM', channels, channel)
  return {}
end
redis.call('ZADD', channels, clock + lease, channel)
redis.call('ZREMRANGEBYRANK', key('lane', lane), 0, #due - 1)
local claims, leases, states, none = {}, {}, { sending = 0 }, {}
local any_suppressed = redis.call('EXISTS', key('suppressed')) == 1

local function suppressed(meta, recipients)
  if not any_suppressed then return '' end
  local values, found = redis.call('HMGET', key('suppressed'), unpack(addresses(meta, lane, recipients))), {}
  for recipient in string.gmatch(recipients, '%d+') do
    local value = table.remove(values, 1)
    if value then found[#found + 1] = recipient .. ':' .. string.match(value, '"origin":"(%a+)"') end
  end
  return table.concat(found, ',')
end

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
    local content = redis.call('GET', key('c', id)) or ''
    local claim, known = { did, token, f[3], f[1], content }, suppressed(f[1], f[3])
    if past ~= none or known ~= '' then
      claim[6], claim[7], claim[8], claim[9] = past[1] or '0', past[2] or '0', past[4] or '', known
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
