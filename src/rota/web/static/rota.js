// What the pages do beyond plain HTML: say whether they are live, let ages grow, walk the wall by arrow keys.
// Everything works without it; htmx and its SSE extension bring the changes themselves.
"use strict";
(() => {
  const STALE_MS = 25000; // two heartbeats and a half
  const live = document.getElementById("live");
  const main = document.getElementById("main");
  const streams = main?.hasAttribute("hx-sse:connect"); // other pages ask for themselves every other second
  let connection = null, heardAt = Date.now(), ahead = 0, lostTimer = 0;

  // -- live, or not -----------------------------------------------------------------------------------------------

  function say(state, text) {
    if (!live || (live.dataset.state === state && state !== "lost")) return;
    live.dataset.state = state;
    live.firstElementChild.textContent = text;
  }

  function heard(serverSeconds) {
    heardAt = Date.now();
    clearTimeout(lostTimer);
    lostTimer = 0;
    if (serverSeconds) ahead = serverSeconds - heardAt / 1000;
    say("live", "live");
  }

  function lost() {
    lostTimer = 0;
    say("lost", `not live since ${new Date(heardAt).toLocaleTimeString()}`);
  }

  function losing() {
    if (!lostTimer && !document.hidden) lostTimer = setTimeout(lost, 2000);
  }

  function reload() {
    // Once in a while at most: two servers that disagree must not make the page spin.
    const last = Number(sessionStorage.getItem("rota.reloaded") || 0);
    if (Date.now() - last < 10000) return;
    sessionStorage.setItem("rota.reloaded", String(Date.now()));
    location.reload();
  }

  document.addEventListener("htmx:sse:before:connection", (event) => {
    connection = event.detail.connection;
    if (connection.attempt) losing();
  });
  document.addEventListener("htmx:sse:after:message", (event) => { if (event.detail.message.event !== "full") heard(); });
  document.addEventListener("htmx:sse:error", losing);
  for (const failure of ["htmx:error", "htmx:response:error"]) {
    document.addEventListener(failure, () => { // a first connection or a renewal that failed
      losing();
      if (streams && !connection) setTimeout(() => main.dispatchEvent(new Event("rota:connect")), 3000);
    });
  }
  document.addEventListener("htmx:after:swap", () => { heard(); rove(); tick(); });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && connection) document.title = "rota";
    else if (connection) losing();
  });

  main?.addEventListener("heartbeat", (event) => heard(Number(event.detail.data)));
  main?.addEventListener("reload", reload);
  main?.addEventListener("full", () => say("lost", "not live: too many pages are open"));
  main?.addEventListener("beats", (event) => {
    const { now, beats } = JSON.parse(event.detail.data);
    heard(now);
    for (const [id, second] of Object.entries(beats)) {
      const age = document.getElementById(id)?.querySelector("[data-t]");
      if (age) age.dataset.t = second;
    }
    tick();
  });

  // -- ages and clocks --------------------------------------------------------------------------------------------

  function words(seconds) { // as `age` in pages/rendering.py
    const whole = Math.max(0, Math.floor(seconds));
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) return `${Math.floor(whole / 60)} min`;
    return whole < 172800 ? `${Math.floor(whole / 3600)} h` : `${Math.floor(whole / 86400)} d`;
  }

  const date = { year: "numeric", month: "short", day: "numeric" };
  const exactTime = { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 };

  function tick() {
    if (document.hidden) return;
    const now = Date.now() / 1000 + ahead;
    for (const age of document.querySelectorAll("[data-t]")) {
      const text = words(Math.abs(now - age.dataset.t));
      if (age.textContent !== text) age.textContent = text;
    }
    for (const clock of document.querySelectorAll("time[data-clock]")) {
      const moment = new Date(clock.dateTime), today = moment.toDateString() === new Date().toDateString();
      const text = clock.dataset.clock === "ms" ? moment.toLocaleString(undefined, today ? exactTime : { ...date, ...exactTime })
        : today ? moment.toLocaleTimeString() : moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
      if (clock.textContent !== text) clock.textContent = text;
    }
    if (connection && Date.now() - heardAt > STALE_MS) {
      losing();
      heardAt += 5000; // then again in five seconds
      connection.reader?.cancel();
    }
  }

  // -- one tab stop per wall; arrows walk inside it -----------------------------------------------------------------

  function rove() {
    for (const wall of document.querySelectorAll(".wall")) {
      const links = wall.querySelectorAll("a");
      const current = wall.querySelector("a:focus") || wall.querySelector('a[tabindex="0"]') || links[0];
      for (const link of links) link.tabIndex = link === current ? 0 : -1;
    }
  }

  function neighbour(links, here, key) {
    const at = links.indexOf(here);
    if (key === "ArrowRight") return links[at + 1];
    if (key === "ArrowLeft") return links[at - 1];
    if (key === "Home") return links[0];
    if (key === "End") return links[links.length - 1];
    const columns = links.filter((link) => link.offsetTop === links[0].offsetTop).length;
    if (key === "ArrowDown") return links[at + columns];
    return key === "ArrowUp" ? links[at - columns] : undefined;
  }

  document.addEventListener("keydown", (event) => {
    const wall = event.target.closest?.(".wall");
    if (!wall || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const next = neighbour([...wall.querySelectorAll("a")], event.target, event.key);
    if (!next) return;
    event.preventDefault();
    next.focus();
    rove();
  });

  if (live?.dataset.now) ahead = Number(live.dataset.now) - Date.now() / 1000;
  rove();
  tick();
  setInterval(tick, 1000);
})();
