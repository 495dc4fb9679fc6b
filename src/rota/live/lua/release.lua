#!lua
-- Purpose: forgets a profile's crashes and lets it wait again; a killed bot's lease is still waited for.
-- KEYS: as in _moves.lua
-- ARGV[1] profile    profile id
-- Replies: 'ok'
-- Refusals: 'unknown' where live does not know the profile
local id = ARGV[1]
local p = get_profile(id)
if not p or p.phase == 'd' then return 'unknown' end
p.crashes, p.after = '0', '0'
if p.phase == 'h' then settle(id, p, 'released') else put_profile(id, p) end
return 'ok'
