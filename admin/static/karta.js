// Conveniences only: every page works without this file.
"use strict";

// A copy button on each snippet. Built from elements, never from markup: the page's policy forbids the latter.
for (const block of document.querySelectorAll("pre")) {
  if (!navigator.clipboard) break;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy quiet";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  const frame = document.createElement("div");
  frame.className = "snippet";
  block.replaceWith(frame);
  frame.append(block, button);
}

// After a proof of who somebody is, what it interrupted goes on without another press.
document.querySelector("form[data-go-on]")?.requestSubmit();
