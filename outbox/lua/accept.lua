-- Take messages, all or nothing. The first write is one that maxmemory refuses, so a full queue takes nothing at all.
-- ARGV: now, bucket, idempotency hash or '', its value, its ttl (ms), number of messages, then for each message
--       id, meta, content, event, state, created (ms), number of deliveries, then for each delivery lane, due, recipients "0,1".
-- Returns {'stored', new messages} or {'replayed', value of the key's first use}. A known id is left as it is.
local bucket, idem = ARGV[2], ARGV[3]
if idem ~= '' then
  local seen = redis.call('GET', key('idem', idem))
  if seen then return { 'replayed', seen } end
end

local at, fresh = 7, 0
for _ = 1, tonumber(ARGV[6]) do
  local id, meta, content, event, state, created, n =
    ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], tonumber(ARGV[at + 6])
  at = at + 7
  local m = key('m', id)
  if redis.call('EXISTS', m) == 0 then
    fresh = fresh + 1
    redis.call('HSET', m, 'meta', meta, 'live', n, 'n', n)
    redis.call('SET', key('c', id), content)
    redis.call('ZADD', key('index'), created, id)
    for k = 0, n - 1 do
      local lane, due, to = ARGV[at + 3 * k], ARGV[at + 3 * k + 1], ARGV[at + 3 * k + 2]
      redis.call('HSET', m, 'lane:' .. k, lane, 'to:' .. k, to, 'state:' .. k, state)
      enlist(lane, id .. '/' .. k, due)
      count(state, size(to))
      flow('in', bucket, lane, size(to))
    end
    redis.call('HSET', m, 'first', record(id, event))
  end
  at = at + 3 * n
end
if idem ~= '' then redis.call('SET', key('idem', idem), ARGV[4], 'PX', ARGV[5]) end
if fresh > 0 then wake() end
return { 'stored', fresh }
