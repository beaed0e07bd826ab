-- A write that means nothing: whether this queue takes writes at all, and is the one that is remembered. No ARGV.
redis.call('SET', key('probe'), '1', 'PX', '1000')
return 1
