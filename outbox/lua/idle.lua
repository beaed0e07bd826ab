-- A channel waits for work until then. ARGV: channel, until by the queue's own clock.
-- One that was given some and has not fetched it waits for nothing more: what comes under its name later would be lost.
if redis.call('EXISTS', key('given', ARGV[1])) == 0 then redis.call('ZADD', key('idle'), ARGV[2], ARGV[1]) end
