// Who this browser's user is: a name and a colour, remembered in localStorage, editable at any time.
// Where a token names the user, the token's name is shown and cannot be changed: the server stamps it anyway.

import { ask, h } from "./dom.ts"
import { personName } from "./names.ts"
import { COLORS, MAX_NAME_LENGTH, type Person, personOf, safeName } from "./people.ts"

const KEY = "collab.me"

export class Identity {
  #person: Person
  readonly given: string | null
  readonly #drawer: Storage

  constructor(drawer: Storage, given: string | null) {
    this.#drawer = drawer
    this.given = given
    this.#person = this.#remembered() ?? {
      name: personName(),
      color: COLORS[crypto.getRandomValues(new Uint32Array(1))[0]! % COLORS.length]!,
    }
    this.#remember()
  }

  get person(): Person {
    return this.given === null ? this.#person : { ...this.#person, name: safeName(this.given) }
  }

  /** Lets the user change it; resolves with whether something changed. */
  async edit(): Promise<boolean> {
    const name = h("input", {
      type: "text",
      name: "name",
      maxlength: String(MAX_NAME_LENGTH),
      autocomplete: "nickname",
    })
    name.value = this.person.name
    name.disabled = this.given !== null
    const swatches = COLORS.map((color, index) => {
      const radio = h("input", { type: "radio", name: "color", value: color, "aria-label": `Colour ${index + 1}` })
      radio.checked = color === this.#person.color
      radio.style.setProperty("--swatch", color)
      return radio
    })
    const answer = await ask((dialog) => {
      const form = h(
        "form",
        { method: "dialog", submit: () => (dialog.returnValue = "save") },
        h("h2", {}, "How others see you"),
        h("label", { class: "field" }, h("span", {}, "Name"), name),
        h("fieldset", { class: "swatches" }, h("legend", {}, "Colour"), ...swatches),
        h(
          "div",
          { class: "actions" },
          h("button", { type: "button", class: "plain", click: () => dialog.close("") }, "Cancel"),
          h("button", { type: "submit", value: "save", class: "primary" }, "Save"),
        ),
      )
      return [form]
    })
    if (answer !== "save") return false
    const color = swatches.find((radio) => radio.checked)?.value ?? this.#person.color
    this.#person = { name: this.given === null && name.value.trim() ? safeName(name.value) : this.#person.name, color }
    this.#remember()
    return true
  }

  #remembered(): Person | null {
    try {
      const kept: unknown = JSON.parse(this.#drawer.getItem(KEY) ?? "null")
      return kept === null ? null : personOf(kept)
    } catch {
      return null
    }
  }

  #remember(): void {
    try {
      this.#drawer.setItem(KEY, JSON.stringify(this.#person))
    } catch {
      // A browser that keeps nothing still shows a name until the tab is closed.
    }
  }
}
