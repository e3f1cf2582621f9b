// What every page gains from a script: a question before what cannot be undone, forms that send themselves, and buttons
// that are pressed once.

for (const form of document.querySelectorAll("form[data-ask]")) {
  form.addEventListener("submit", (event) => {
    if (!window.confirm(form.dataset.ask)) event.preventDefault();
  });
}

for (const form of document.querySelectorAll("form[data-auto]")) {
  const button = form.querySelector("button");
  if (button) button.hidden = true;
  form.addEventListener("change", () => form.requestSubmit());
}

document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method !== "post") return;
  for (const button of event.target.querySelectorAll("button")) {
    // Not at once, or the pressed button's own value would not be sent.
    setTimeout(() => { button.disabled = true; }, 0);
    setTimeout(() => { button.disabled = false; }, 4000);
  }
});

// A sheet closes when something else is pressed, or by Escape.
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details.more-of[open], details.edit[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const open of document.querySelectorAll("details.more-of[open], details.edit[open]")) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});
