// Suggestions for slash commands: a listbox the message field steers with arrows, Tab, Enter and Escape.

import { make } from "./text.js";
import { listCommands } from "./words.js";

export class Suggest {
  #field;
  #box;
  #found = [];
  #active = 0;

  constructor(field, box) {
    this.#field = field;
    this.#box = box;
    field.addEventListener("input", () => this.update());
    field.addEventListener("blur", () => this.close());
    // Keeps the focus, and with it the keyboard of a phone, in the field.
    box.addEventListener("pointerdown", (event) => event.preventDefault());
    box.addEventListener("click", (event) => {
      const option = event.target.closest(".command-suggest-item");
      if (option) this.#choose(Number(option.dataset.index));
    });
  }

  get isOpen() {
    return !this.#box.hidden;
  }

  update() {
    const text = this.#field.value;
    this.#found = /^\/\w*$/.test(text) ? listCommands(text) : [];
    this.#active = 0;
    if (this.#found.length === 0) this.close();
    else this.#draw();
  }

  close() {
    this.#box.hidden = true;
    this.#field.removeAttribute("role");
    this.#field.removeAttribute("aria-expanded");
    this.#field.removeAttribute("aria-activedescendant");
  }

  /** Handles a key; true if it was meant for the list. Enter on a command that is fully typed is not. */
  key(event) {
    if (!this.isOpen) return false;
    const count = this.#found.length;
    if (event.key === "ArrowDown") this.#move((this.#active + 1) % count);
    else if (event.key === "ArrowUp") this.#move((this.#active + count - 1) % count);
    else if (event.key === "Tab" && !event.shiftKey) this.#choose(this.#active);
    else if (event.key === "Enter" && !event.shiftKey && this.#found[this.#active].name !== this.#field.value.toLowerCase()) this.#choose(this.#active);
    else if (event.key === "Escape") this.close();
    else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }

  #draw() {
    this.#box.replaceChildren(
      ...this.#found.map((command, index) => {
        const option = make("div", "command-suggest-item", make("span", "command-name", command.name), make("span", "command-title", command.title), make("span", "command-text", command.description));
        option.id = `command-option-${index}`;
        option.dataset.index = index;
        option.setAttribute("role", "option");
        return option;
      }),
    );
    this.#box.hidden = false;
    this.#field.setAttribute("role", "combobox");
    this.#field.setAttribute("aria-expanded", "true");
    this.#move(0);
  }

  #move(index) {
    this.#active = index;
    [...this.#box.children].forEach((option, at) => {
      option.classList.toggle("is-active", at === index);
      option.setAttribute("aria-selected", String(at === index));
    });
    this.#box.children[index].scrollIntoView({ block: "nearest" });
    this.#field.setAttribute("aria-activedescendant", `command-option-${index}`);
  }

  #choose(index) {
    const command = this.#found[index];
    this.#field.value = command.takesWords ? `${command.name} ` : command.name;
    this.#field.focus();
    this.close();
    this.#field.dispatchEvent(new Event("change", { bubbles: true }));
  }
}
