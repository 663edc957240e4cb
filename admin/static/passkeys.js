// Lets the browser make or use a passkey, and sends its answer as a field of the form.
"use strict";

const ASK = {
  create: async options => navigator.credentials.create({
    publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options),
  }),
  get: async options => navigator.credentials.get({
    publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options),
  }),
};

function explain(error) {
  if (error.name === "InvalidStateError") return "This passkey is added already.";
  if (error.name === "NotAllowedError") return "Nothing was done: it was cancelled, or took too long.";
  return "This browser could not use a passkey here.";
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const problem = form.querySelector("[data-passkey-problem]");
  form.addEventListener("submit", async event => {
    event.preventDefault();
    problem.textContent = "";
    if (!window.PublicKeyCredential?.parseRequestOptionsFromJSON) {
      problem.textContent = "This browser knows no passkeys, or is too old for ours.";
      return;
    }
    try {
      const answer = await ASK[form.dataset.passkey](JSON.parse(form.dataset.options));
      form.elements.response.value = JSON.stringify(answer.toJSON());
    } catch (error) {
      problem.textContent = explain(error);
      return;
    }
    // Not `requestSubmit`: that would come back here.
    form.submit();
  });
}
