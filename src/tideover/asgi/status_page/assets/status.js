// Keeps the page up to date: fragments come whole and are swapped, ages count here, and a page that hears nothing
// says so. Without this script the page reloads itself.
(function () {
  "use strict";
  var SILENT = 15000; // milliseconds without a word after which the page does not call itself live
  var POLL = 5000;
  var RETRY = 60000;
  var body = document.body;
  var base = body.dataset.base;
  var fresh = document.getElementById("fresh");
  var heard = performance.now();
  var agesAt = heard;
  var stale = false;
  var waiting = {}; // fragments that come when the reader has let go of their text
  var source = null;
  var etag = null;

  // Ages -----------------------------------------------------------------------------------------------------
  function span(seconds) {
    var s = Math.floor(seconds);
    if (s < 1) { return "under 1 s"; }
    if (s < 60) { return s + " s"; }
    if (s < 3600) { return Math.floor(s / 60) + " min " + (s % 60) + " s"; }
    if (s < 172800) { return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min"; }
    return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
  }
  function worded(seconds, form) {
    var text;
    if (form === "due" && seconds < 0) {
      text = span(-seconds) + " past";
    } else {
      text = span(Math.max(0, seconds));
      if (form === "in" || form === "due") {
        text = seconds < 1 ? "now" : "in " + text;
      } else if (form !== "for") {
        text += " " + form;
      }
    }
    return text.replace(/ /g, "\u00a0");
  }
  function counted(element) {
    var passed = (performance.now() - Number(element.dataset.from || agesAt)) / 1000;
    var down = { "in": 1, left: 1, due: 1 }[element.dataset.form];
    return Number(element.dataset.age) + (down ? -passed : passed);
  }
  function show(element) {
    var seconds = counted(element);
    var text = worded(seconds, element.dataset.form);
    if (element.textContent !== text) { element.textContent = text; }
    var meter = element.nextElementSibling;
    var level = meter && meter.querySelector("[data-limit]");
    if (level) {
      var share = Math.max(0, Math.min(99, 99 * seconds / Number(level.dataset.limit)));
      level.setAttribute("width", share.toFixed(0) + "%");
    }
  }
  function tick() {
    if (performance.now() - heard > SILENT) { turnStale(true); }
    Object.keys(waiting).forEach(function (name) { swap(name, waiting[name]); });
    if (!stale) { document.querySelectorAll("[data-age]").forEach(show); }
  }
  function takeAges(sent) {
    var now = performance.now();
    Object.keys(sent.ages).forEach(function (name) {
      var fragment = document.getElementById("f-" + name);
      if (!fragment) { return; }
      fragment.querySelectorAll("[data-key]").forEach(function (element) {
        var seconds = sent.ages[name][Number(element.dataset.key)];
        if (typeof seconds !== "number") { return; }
        element.dataset.age = seconds;
        element.dataset.from = now;
        show(element);
      });
    });
    hear(sent.as_of);
  }

  // The page's own freshness ---------------------------------------------------------------------------------
  function hear(asOf) {
    heard = performance.now();
    fresh.querySelector("b").textContent = asOf;
    turnStale(false);
  }
  function turnStale(now) {
    stale = now;
    body.classList.toggle("is-stale", stale);
    var how = stale ? "not updated since " : source ? "updates live, as of " : "looks every 5 s, as of ";
    var shown = fresh.querySelector(".how");
    if (shown.textContent !== how) { shown.textContent = how; }
  }

  // Fragments ------------------------------------------------------------------------------------------------
  function held(fragment) {
    var selection = getSelection();
    return selection && !selection.isCollapsed && fragment.contains(selection.anchorNode);
  }
  function swap(name, html) {
    var old = document.getElementById("f-" + name);
    if (!old) { return; }
    if (held(old)) { waiting[name] = html; return; }
    delete waiting[name];
    var now = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
    if (!now || old.dataset.version === now.dataset.version) { return; }
    place(old, document.importNode(now, true), name);
  }
  function place(old, now, name) {
    var focused = document.activeElement;
    var id = focused && old.contains(focused) ? focused.id : "";
    var start = id && "selectionStart" in focused ? [focused.selectionStart, focused.selectionEnd] : null;
    var at = performance.now();
    now.querySelectorAll("[data-age]").forEach(function (element) { element.dataset.from = at; });
    if (old.getAttribute("role") === "status") { // heard only as long as it is the same element
      old.textContent = now.textContent;
      old.dataset.version = now.dataset.version;
      return;
    }
    old.replaceWith(now);
    if (id) {
      var again = document.getElementById(id);
      if (again) {
        again.focus({ preventScroll: true });
        if (start) { again.setSelectionRange(start[0], start[1]); }
      }
    }
    if (name === "verdict") { follow(now); }
  }
  function follow(verdict) {
    body.classList.remove("is-available", "is-degraded", "is-unavailable");
    body.classList.add("is-" + verdict.dataset.state);
    document.title = verdict.dataset.title;
    document.querySelector("link[rel=icon]").setAttribute("href", base + verdict.dataset.state + ".svg");
  }

  // Where they come from -------------------------------------------------------------------------------------
  function pageUrl() { return (base || "./") + location.search; }
  function takePage(text) {
    var page = new DOMParser().parseFromString(text, "text/html");
    page.querySelectorAll("[data-version]").forEach(function (fragment) {
      var name = fragment.id.slice(2);
      var old = document.getElementById(fragment.id);
      if (!old) { return; }
      if (old.dataset.version !== fragment.dataset.version) { swap(name, fragment.outerHTML); return; }
      var at = performance.now();
      var olds = old.querySelectorAll("[data-age]");
      fragment.querySelectorAll("[data-age]").forEach(function (element, index) {
        if (olds[index]) { olds[index].dataset.age = element.dataset.age; olds[index].dataset.from = at; }
      });
    });
    hear(page.querySelector("#fresh b").textContent);
  }
  function loadPage() {
    return fetch(pageUrl(), { credentials: "same-origin", cache: "no-store" }).then(function (answer) {
      return answer.ok ? answer.text().then(takePage) : undefined;
    }).catch(function () { /* the page turns stale by itself */ });
  }
  function poll() {
    if (source) { return; }
    var headers = etag ? { "If-None-Match": etag } : {};
    fetch(base + "status.json", { credentials: "same-origin", headers: headers, cache: "no-store" }).then(function (answer) {
      if (answer.status === 304) {
        hear(answer.headers.get("Tideover-As-Of") || fresh.querySelector("b").textContent);
        return undefined;
      }
      if (!answer.ok) { return undefined; }
      etag = answer.headers.get("ETag");
      return loadPage();
    }).catch(function () { /* likewise */ }).then(function () { if (!source) { setTimeout(poll, POLL); } });
  }
  function listen() {
    if (body.dataset.events !== "yes") { poll(); return; }
    var mine = source = new EventSource(base + "events" + location.search);
    (body.dataset.fragments || "").split(" ").forEach(function (name) {
      mine.addEventListener(name, function (event) { swap(name, event.data); });
    });
    mine.addEventListener("ages", function (event) { takeAges(JSON.parse(event.data)); });
    mine.addEventListener("error", function () {
      if (mine !== source || mine.readyState !== EventSource.CLOSED) { return; } // it comes back by itself
      source = null;
      turnStale(stale);
      poll();
      setTimeout(function () { if (!source) { listen(); } }, RETRY);
    });
  }

  // Keys are asked for without a reload ------------------------------------------------------------------------
  function go(url) {
    history.replaceState(null, "", url);
    loadPage();
    if (source) { source.close(); listen(); }
  }
  document.addEventListener("submit", function (event) {
    if (!event.target.matches("#filter")) { return; }
    event.preventDefault();
    go("?" + new URLSearchParams(new FormData(event.target)).toString());
  });
  document.addEventListener("click", function (event) {
    var link = event.target.closest("a[data-keys]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) { return; }
    event.preventDefault();
    go(link.getAttribute("href"));
  });
  document.addEventListener("focusin", function (event) {
    if (event.target.matches("input.query")) { event.target.select(); }
  });

  listen();
  turnStale(false);
  setInterval(tick, 1000);
})();
