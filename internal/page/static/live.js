// Tells a page anew while it is open. Without this file every page works; it then says as of when it is.
"use strict";
(function () {
  var live = document.querySelector("[data-live]");
  if (!live || !window.EventSource) return;

  // What a person is filling in is not taken from under their hands.
  function busy() {
    var active = document.activeElement;
    return live.contains(active) && active.matches("input, textarea, select");
  }

  function place(html) {
    var fresh = new DOMParser().parseFromString(html, "text/html").body;
    var active = document.activeElement;
    var way = live.contains(active) ? wayTo(active) : null;
    live.querySelectorAll("details[open][id]").forEach(function (open) {
      var same = fresh.querySelector("#" + open.id);
      if (same) same.open = true;
    });
    live.replaceChildren.apply(live, Array.from(fresh.childNodes));
    if (way) focusOn(way);
  }

  // wayTo tells which element it is, so that the keyboard stays there.
  function wayTo(element) {
    return { tag: element.tagName, text: element.textContent, href: element.getAttribute("href") };
  }

  function focusOn(way) {
    var same = Array.from(live.getElementsByTagName(way.tag)).find(function (e) {
      return e.textContent === way.text && e.getAttribute("href") === way.href;
    });
    if (same) same.focus({ preventScroll: true });
  }

  var source = null;
  function follow() {
    if (source || document.hidden) return;
    source = new EventSource(live.dataset.live);
    source.onmessage = function (event) {
      if (!busy()) place(event.data);
    };
  }
  document.addEventListener("visibilitychange", function () {
    if (document.hidden && source) {
      source.close();
      source = null;
    }
    follow();
  });
  window.addEventListener("pagehide", function () {
    if (source) source.close();
    source = null;
  });
  follow();
})();

// A list can be dropped on its form.
(function () {
  var form = document.querySelector("form[data-drop]");
  if (!form || !window.DataTransfer) return;
  var file = form.querySelector("input[type=file]");
  form.classList.add("ready");
  function over(event) {
    event.preventDefault();
    form.classList.toggle("over", event.type === "dragover");
  }
  form.addEventListener("dragover", over);
  form.addEventListener("dragleave", over);
  form.addEventListener("drop", function (event) {
    over(event);
    if (!event.dataTransfer.files.length) return;
    var one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    file.files = one.files;
    form.querySelector("[name=campaign]").focus();
  });
})();
