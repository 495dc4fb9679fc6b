-- Shared prelude of every verb: names the keys, reads the clock, and holds the moves that several verbs make.
-- It stands in front of each verb's own file; nothing here runs by itself but the reading of the clock.
--
-- KEYS[1]  roster          hash    bot id -> entry (parse_bot)
-- KEYS[2]  details         hash    bot id -> JSON array for people: version, joined, address, labels if there are any
-- KEYS[3]  due             zset    bot id -> deadline, ms
-- KEYS[4]  profiles        hash    profile id -> entry (parse_profile)
-- KEYS[5]  classes         set     classes in which a profile waits
-- KEYS[6]  held            zset    profile id -> not before, ms
-- KEYS[7]  counts          hash    b<phase> and p<phase> -> number
-- KEYS[8]  events          stream  every move, in order
-- KEYS[9]  pulse           hash    incarnation, run, built, heard, led, deaf, quiet, lease, kept, offset, steps, form
-- KEYS[10] servers         hash    hostname -> number of bots
-- KEYS[11] drains          set     hostnames and bot ids that are to finish and take nothing new
-- KEYS[12] contested       zset    bot id -> until when its slot is contested, ms
-- KEYS[13] server_prefix   prefix  + hostname: set of its bots' instances
-- KEYS[14] waiting_prefix  prefix  + class: zset profile id -> order
--
-- Phases, one letter each. Bots: i idle, s starting, w working, x stopping.
-- Profiles: o stopped, q waiting, h held, s starting, w working, x stopping, d deleted.
local roster, details, due, profiles, classes, held = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local counts, events, pulse, servers, drains, contested, server_prefix, waiting_prefix =
  KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local call, fmt, sub, match = redis.call, string.format, string.sub, string.match

-- The clock of live state: the store's, and an offset that keeps it even when the store's is set (pulse.lua).
local clock = call('TIME')
local known = call('HMGET', pulse, 'incarnation', 'run', 'built', 'heard', 'deaf', 'quiet', 'lease', 'kept', 'offset',
  'form')
-- Entries that another version of rota wrote cannot be read: they count as lost, and are rebuilt from the ledger as
-- after any loss. Raised whenever an entry's form changes. Events stay: they are still to be recorded.
local FORM, FORGOTTEN_MOST = '2', 1000000
if known[1] and known[10] ~= FORM then
  for _, host in ipairs(call('HRANDFIELD', servers, FORGOTTEN_MOST)) do call('UNLINK', server_prefix .. host) end
  for _, class in ipairs(call('SRANDMEMBER', classes, FORGOTTEN_MOST)) do call('UNLINK', waiting_prefix .. class) end
  call('UNLINK', roster, details, due, profiles, classes, held, counts, pulse, servers, drains, contested)
  known = {}
end
local offset = tonumber(known[9] or 0)
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + offset
local now_us = clock[1] * 1000000 + clock[2] + offset * 1000
local incarnation, built = known[1], known[3] == '1'
local heard, deaf, quiet = tonumber(known[4] or 0), tonumber(known[5] or 0), tonumber(known[6] or 0)
-- The longest lease that may be out, in ms.
local longest = tonumber(known[7] or 0)

local DIGEST = 16
local EVENTS_KEPT = 1000000
local CLASSES_A_LOOK = 64
local GAP_LEAST_MS, GAP_MOST_MS = 2000, 5000
local SPREAD_MS = 1000
local CRASH_FIRST_MS, CRASH_MOST_MS, CRASH_FORGIVEN_MS, CRASH_SOON_MS = 10000, 600000, 600000, 60000

-- Without a pulse of the web for longer than this, rota counts as deaf. Well below the slack between two beats and
-- their deadline, so that no gap that goes unnoticed can end a bot that beats on time; well above a pulse's second.
local function deaf_gap(lease)
  return math.max(GAP_LEAST_MS, math.min(GAP_MOST_MS, lease / 4))
end

-- Whether rota hears, and by a clock that can be trusted: until the next pulse, one that was just set looks like an
-- outage, and nothing may end or begin because of the time that seems to have passed.
local function hears()
  return math.abs(now - heard) <= deaf_gap(longest)
end

-- A lease that is about to be given out may be longer than any before it, under a policy that no pulse has told yet.
local function note_lease(lease)
  if lease <= longest then return end
  longest = lease
  call('HSET', pulse, 'lease', fmt('%.0f', lease), 'kept', fmt('%.0f', now + lease))
end

-- tostring keeps 14 digits; an epoch has 16.
local function digits(number)
  return fmt('%.0f', number)
end

local function event(kind, bot, profile, epoch, reason)
  call('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'kind', kind, 'bot', bot or '', 'profile', profile or '',
    'epoch', epoch or '', 'reason', reason or '')
end

-- Roster entry: 16 digest bytes, phase, flag (1 accepting, 0 quiet, d draining), profile, epoch, revision, status.
-- The flags a and q are 1 and 0 of a bot that tells by itself which work it has ended.
-- The digest is cut off first, because it may hold zero bytes, at which Lua's patterns end.
local function parse_bot(entry)
  local profile, epoch, revision, status = match(sub(entry, DIGEST + 4), '^(%S+) (%d+) (%d+) (.*)$')
  return {
    digest = sub(entry, 1, DIGEST), phase = sub(entry, DIGEST + 1, DIGEST + 1),
    flag = sub(entry, DIGEST + 2, DIGEST + 2), profile = profile, epoch = epoch, revision = revision, status = status,
  }
end

-- `was` is the phase under which the bot is counted so far, or nil for a new one.
local function put_bot(id, bot, was)
  call('HSET', roster, id, bot.digest .. bot.phase .. bot.flag .. ' ' .. bot.profile .. ' ' .. bot.epoch .. ' '
    .. bot.revision .. ' ' .. bot.status)
  if was ~= bot.phase then
    if was then call('HINCRBY', counts, 'b' .. was, -1) end
    call('HINCRBY', counts, 'b' .. bot.phase, 1)
  end
end

local function make_idle(bot)
  bot.phase, bot.profile, bot.epoch, bot.revision = 'i', '-', '0', '0'
end

-- Profile entry: bot, epoch, revision, version, want, phase, since; then crashes, after, lease, priority and class,
-- which are left out together where all are usual.
local USUAL = ' 0 0 0 0 -'

local function parse_profile(entry)
  if not entry then return nil end
  local p, rest = {}
  p.bot, p.epoch, p.revision, p.version, p.want, p.phase, p.since, rest =
    match(entry, '^(%S+) (%d+) (%d+) (%d+) (%S) (%S) (%d+)(.*)$')
  p.crashes, p.after, p.lease, p.priority, p.class =
    match(rest == '' and USUAL or rest, '^ (%d+) (%d+) (%d+) (%-?%d+) (.*)$')
  return p
end

local function get_profile(id)
  return parse_profile(call('HGET', profiles, id))
end

local function put_profile(id, p)
  local rest = ' ' .. p.crashes .. ' ' .. p.after .. ' ' .. p.lease .. ' ' .. p.priority .. ' ' .. p.class
  call('HSET', profiles, id, p.bot .. ' ' .. p.epoch .. ' ' .. p.revision .. ' ' .. p.version .. ' ' .. p.want .. ' '
    .. p.phase .. ' ' .. p.since .. (rest == USUAL and '' or rest))
end

-- Takes the profile out of the set that its phase keeps it in.
local function unplace(id, p)
  if p.phase == 'q' then
    call('ZREM', waiting_prefix .. p.class, id)
    if call('EXISTS', waiting_prefix .. p.class) == 0 then call('SREM', classes, p.class) end
  elseif p.phase == 'h' then
    call('ZREM', held, id)
  end
end

-- Ten minutes of work forgive the crashes before it, however it ends; not the one that ends it.
local function forgive(p)
  if not p.counted and now - p.since >= CRASH_FORGIVEN_MS then p.crashes = '0' end
end

-- Moves a profile into `phase` and keeps its sets and counts; p.phase is nil for a new one.
local function move_profile(id, p, phase)
  unplace(id, p)
  if p.phase ~= phase then
    if p.phase then call('HINCRBY', counts, 'p' .. p.phase, -1) end
    call('HINCRBY', counts, 'p' .. phase, 1)
    if p.phase == 'w' then forgive(p) end
    p.since = digits(now)
  end
  p.phase = phase
  if phase == 'q' then
    call('ZADD', waiting_prefix .. p.class, digits((100 - p.priority) * 1e13 + p.since), id)
    call('SADD', classes, p.class)
  elseif phase == 'h' then
    call('ZADD', held, digits(math.max(tonumber(p.after), tonumber(p.lease))), id)
  end
  put_profile(id, p)
end

-- Where a profile goes that nobody is bound to: the queue, held back, stopped or deleted. p.bot stays as the last
-- owner, whose last flush is still taken.
local function settle(id, p, reason)
  local was, kind = p.phase, nil
  if p.want == 'd' then
    move_profile(id, p, 'd')
  elseif p.want ~= '1' then
    move_profile(id, p, 'o')
    kind = 'stopped'
  elseif math.max(tonumber(p.after), tonumber(p.lease)) > now then
    move_profile(id, p, 'h')
    kind = 'held'
  else
    move_profile(id, p, 'q')
    kind = 'waiting'
  end
  if kind and was ~= p.phase then event(kind, nil, id, p.epoch, reason) end
end

-- Ends the bot's side of a binding, if there is one; the bot's entry is written or removed by the caller.
local function unbind(bot, reason)
  if bot.phase == 'i' then return end
  local p = get_profile(bot.profile)
  if p then settle(bot.profile, p, reason) end
end

-- Holds the profile until whoever works on it as the bot `id` must have stopped: a lease ends before its deadline.
-- Where that was lost, no lease is longer than the longest.
local function hold_while_leased(id, p)
  local leased = tonumber(call('ZSCORE', due, id) or now + longest)
  p.lease = digits(math.max(tonumber(p.lease), math.ceil(leased)))
end

-- After a crash the profile is held back 10 s, doubling to 10 min.
local function count_crash(p)
  if p.phase == 'w' then forgive(p) end
  local crashes = tonumber(p.crashes)
  p.crashes, p.counted = digits(crashes + 1), true
  p.after = digits(now + math.min(CRASH_MOST_MS, CRASH_FIRST_MS * 2 ^ math.min(crashes, 10)))
end

-- A bot that dies soon after its start is counted as one that its profile killed; true if that holds the profile back.
-- `alive` is its last sign of life; p.since is when it was given the profile, or said that it works on it. The first
-- such death may be anything's fault, a server's or a deployment's, and holds nothing back.
local function count_early_death(p, alive)
  if p.phase == 'x' or alive - p.since >= CRASH_SOON_MS then return false end
  local before = p.after
  count_crash(p)
  if tonumber(p.crashes) > 1 then return true end
  p.after = before
  return false
end

-- Both directions of the binding, in one place; the bot's entry is written by the caller with put_bot.
local function bind(id, bot, profile_id, p, epoch, phase)
  p.bot, p.epoch = id, epoch
  move_profile(profile_id, p, phase)
  bot.phase, bot.profile, bot.epoch, bot.revision = phase, profile_id, epoch, p.revision
end

-- Epochs rise also after a total loss, because the store's clock in microseconds is ahead of every grant before it.
local function next_epoch(p)
  return digits(math.max(tonumber(p.epoch) + 1, now_us))
end

-- Takes the profile from the bot `id`, which may still work on it: nobody gets it before that must have stopped, and
-- the epoch is used up, or the bot would come back through /bot/auth with its lease.
local function take_away(id, profile_id, p, epoch, reason)
  hold_while_leased(id, p)
  p.epoch, p.bot = epoch, '-'
  settle(profile_id, p, reason)
end

-- The bot is gone from every key; what it was bound to must have been dealt with before.
local function remove_bot(id, bot)
  local server, instance = match(id, '^([^/]+)/(.+)$')
  call('HDEL', roster, id)
  call('HDEL', details, id)
  call('ZREM', due, id)
  call('SREM', server_prefix .. server, instance)
  call('ZREM', contested, id)
  if call('HINCRBY', servers, server, -1) <= 0 then call('HDEL', servers, server) end
  call('HINCRBY', counts, 'b' .. bot.phase, -1)
end

-- False while a forgotten grant may still be worked under: the store was restarted or a replica promoted since the
-- last look (its run id differs), and it may have lost its last writes. Asked once a call, before the first grant.
local granting
local function may_grant()
  if granting == nil then
    local run = match(call('INFO', 'server'), 'run_id:(%x+)')
    if known[2] ~= run then
      if known[2] ~= 'sealed' then
        quiet = math.max(quiet, now + longest)
        event('quiet', nil, nil, nil, 'store restarted')
      end
      call('HSET', pulse, 'run', run, 'quiet', digits(quiet))
    end
    granting = built and hears() and now >= quiet
  end
  return granting
end

-- A class is the canonical text of required labels, `a=1,b=2`, or `-` for none.
local function suits(class, labels)
  if class ~= '-' then
    for name, value in string.gmatch(class, '([^=,]+)=([^=,]+)') do
      if labels[name] ~= value then return false end
    end
  end
  return true
end

-- The waiting profile that comes first among those whose required labels the bot bears, or nil.
local function first_waiting(id)
  local labels, best, best_order
  -- Random members where there are many, so that every class is looked at sooner or later and the loop stays bounded.
  for _, class in ipairs(call('SRANDMEMBER', classes, CLASSES_A_LOOK)) do
    if class ~= '-' and not labels then
      labels = cjson.decode(call('HGET', details, id) or '[]')[4]
      -- Without labels, what auth.lua notes may stand in their place.
      if type(labels) ~= 'table' then labels = {} end
    end
    if suits(class, labels) then
      local head = call('ZRANGE', waiting_prefix .. class, 0, 0, 'WITHSCORES')
      if head[1] and (not best_order or tonumber(head[2]) < best_order) then
        best, best_order = head[1], tonumber(head[2])
      end
    end
  end
  return best
end
