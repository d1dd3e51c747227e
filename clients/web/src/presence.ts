// Who is here: avatars in the header and carets in the text, from awareness states that peers may fill with anything.

import type { Awareness } from "y-protocols/awareness"
import { h } from "./dom.ts"
import { type Person, initials, personOf, textOn } from "./people.ts"

const MOST_AVATARS = 5

export function avatar(person: Person, note = ""): HTMLElement {
  const element = h(
    "span",
    { class: "avatar", title: person.name + note },
    h("span", { "aria-hidden": "true" }, initials(person.name)),
  )
  element.append(h("span", { class: "hidden" }, person.name + note))
  paint(element, person.color)
  return element
}

export function others(awareness: Awareness): Person[] {
  return [...awareness.getStates()]
    .filter(([client, state]) => client !== awareness.clientID && state.user !== undefined)
    .sort(([a], [b]) => a - b)
    .map(([, state]) => personOf(state.user))
}

export function showPeople(list: HTMLElement, people: readonly Person[]): void {
  const shown = people.slice(0, MOST_AVATARS)
  const more = people.length - shown.length
  const items = shown.map((person) => h("li", {}, avatar(person)))
  if (more > 0) {
    const names = people.slice(MOST_AVATARS, MOST_AVATARS + 30).map((person) => person.name)
    items.push(h("li", {}, h("span", { class: "avatar more", title: names.join(", ") }, `+${more}`)))
  }
  list.replaceChildren(...items)
  list.setAttribute("aria-label", people.length === 1 ? "1 other person here" : `${people.length} other people here`)
}

/** A caret with a name, for the editor. Colours go through the CSSOM: style attributes are forbidden on this page. */
export function caret(user: unknown): HTMLElement {
  const person = personOf(user)
  const label = h("span", { class: "caret-name" }, person.name)
  const element = h("span", { class: "caret" }, label)
  paint(label, person.color)
  element.style.setProperty("--person", person.color)
  return element
}

/** What marks somebody else's selection; ProseMirror sets the style through the CSSOM too. */
export function selection(user: unknown): { class: string; style: string } {
  return { class: "selection", style: `background-color: ${personOf(user).color}38` }
}

function paint(element: HTMLElement, color: string): void {
  element.style.setProperty("--person", color)
  element.style.setProperty("--person-text", textOn(color))
}
