// Keeps the parts of a page marked `data-live` (each with an id) as the server would show them now.
// The answer is parsed by the browser as a document in which no script runs, so no markup is made from text here.
"use strict";

const EVERY_MS = 2000;
// Somebody who walked away stops asking; moving the pointer or coming back goes on.
const PATIENCE_MS = 10 * 60 * 1000;
let lastSign = Date.now();

function look() {
  const idle = document.hidden || Date.now() - lastSign > PATIENCE_MS;
  if (idle || !document.querySelector("[data-live]")) return setTimeout(look, EVERY_MS);
  const request = new XMLHttpRequest();
  request.open("GET", location.href);
  request.responseType = "document";
  request.setRequestHeader("X-Karta-Look", "1");
  request.timeout = 20000;
  request.onloadend = () => {
    if (request.status === 200 && request.response) put(request.response);
    if (request.status < 300 || request.status >= 500) setTimeout(look, EVERY_MS);
  };
  request.send();
}

function put(page) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const newer = page.getElementById(part.id);
    // What somebody is using stays; so does what has not changed, which a screen reader would read out again.
    if (!newer || part.contains(document.activeElement) || newer.textContent === part.textContent) continue;
    part.replaceChildren(...newer.childNodes);
  }
}

for (const sign of ["pointermove", "keydown", "visibilitychange"]) {
  addEventListener(sign, () => { lastSign = Date.now(); }, { passive: true });
}
setTimeout(look, EVERY_MS);
