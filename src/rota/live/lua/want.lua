#!lua
-- Purpose: what clients want of profiles, taken over from the ledger; idempotent, and older than known is ignored.
-- KEYS: as in _moves.lua
-- ARGV[1] wishes     msgpack array, seven values each, at most 64 wishes: profile id, version, want (1 started,
--                    0 stopped, d deleted), revision, priority, class, epoch (the highest that the ledger knows)
-- ARGV[2] anew       1 where live state was found to differ: the wish is taken over whatever its version is, else 0
-- Replies: number of wishes that were new
-- Refusals: none; a version that is not newer than the known one is passed over
local wishes, anew = cmsgpack.unpack(ARGV[1]), ARGV[2] == '1'
local applied = 0

local function take_over(id, p)
  if p.phase == 's' or p.phase == 'w' then
    local bot = parse_bot(call('HGET', roster, p.bot))
    local was = bot.phase
    if p.want == '1' then
      if bot.revision ~= p.revision then event('reconfigured', p.bot, id, p.epoch, 'client') end
      bot.revision = p.revision
      put_profile(id, p)
    else
      bot.phase = 'x'
      move_profile(id, p, 'x')
      event('stopping', p.bot, id, p.epoch, p.want == 'd' and 'deleted' or 'client')
    end
    put_bot(p.bot, bot, was)
  elseif p.phase == 'x' then
    -- A stop that is on its way is always carried out; `settle` looks at the wish when it is confirmed.
    put_profile(id, p)
  else
    settle(id, p, 'client')
  end
end

-- Somebody was handed a newer epoch than the bot that is bound, whose data is refused: it has to stop, and whoever
-- comes next must have an epoch above both.
local function part(id, p, epoch)
  local bot = parse_bot(call('HGET', roster, p.bot))
  local was = bot.phase
  event('released', p.bot, id, p.epoch, 'behind')
  make_idle(bot)
  put_bot(p.bot, bot, was)
  take_away(p.bot, id, p, digits(epoch), 'behind')
end

for i = 1, #wishes, 7 do
  local id, version, want, revision = wishes[i], wishes[i + 1], wishes[i + 2], wishes[i + 3]
  local p = get_profile(id)
  if not p or anew or tonumber(p.version) < version then
    local class = wishes[i + 5]
    if not p then
      p = {bot = '-', epoch = '0', crashes = '0', since = '0', after = '0', lease = '0', class = class}
      -- Live state has lost it alone: whoever works on it may do so for one lease.
      if anew and wishes[i + 6] > 0 then p.lease = digits(now + longest) end
    end
    if p.class ~= class and p.phase == 'q' then
      -- settle() puts it into its new class; the old one must be left under its old name
      call('ZREM', waiting_prefix .. p.class, id)
      if call('EXISTS', waiting_prefix .. p.class) == 0 then call('SREM', classes, p.class) end
    end
    p.version, p.want, p.revision, p.priority = digits(version), want, digits(revision), digits(wishes[i + 4])
    p.class = class
    -- The floor matters after a loss; while the profile is bound, live itself knows better.
    local floor, at_work = wishes[i + 6], p.phase == 's' or p.phase == 'w'
    if anew and at_work and want == '1' and tonumber(p.epoch) < floor then
      part(id, p, floor)
    else
      if not at_work and p.phase ~= 'x' then p.epoch = digits(math.max(tonumber(p.epoch), floor)) end
      take_over(id, p)
    end
    applied = applied + 1
  end
end
return applied
