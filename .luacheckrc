-- What a script sees inside Redis and Valkey: Lua 5.1 and these.
std = "lua51"
read_globals = {"redis", "cjson", "cmsgpack", "KEYS", "ARGV"}
