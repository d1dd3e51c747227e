// The few lines a page without a framework needs: elements, icons, and colours set through the CSSOM, since the
// content security policy forbids style attributes.

type Child = Node | string | null
type Attributes = Record<string, string | boolean | null | ((event: never) => void)>

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value as EventListener)
    else if (value === true) element.setAttribute(name, "")
    else if (typeof value === "string") element.setAttribute(name, value)
  }
  element.append(...children.filter((child) => child !== null))
  return element
}

const ICONS = {
  back: "M15 5l-7 7 7 7",
  bold: "M7 5h6a3.5 3.5 0 0 1 0 7H7zM7 12h7a3.5 3.5 0 0 1 0 7H7z",
  bullets: "M9 6h11M9 12h11M9 18h11M4.5 6h.01M4.5 12h.01M4.5 18h.01",
  code: "M8 7l-5 5 5 5M16 7l5 5-5 5",
  codeBlock: "M4 4h16v16H4zM10 9l-3 3 3 3M14 9l3 3-3 3",
  heading1: "M4 6v12M12 6v12M4 12h8M17 10l2.5-1.5V18",
  heading2: "M4 6v12M12 6v12M4 12h8M16 10.5a2.3 2.3 0 1 1 4 1.5l-4 6h4.5",
  italic: "M10 5h8M6 19h8M14 5l-4 14",
  numbers: "M10 6h10M10 12h10M10 18h10M4 5l1.5-1V9M4 14.5a1.3 1.3 0 1 1 2.3.8L4 18.5h2.6",
  plus: "M12 5v14M5 12h14",
  quote: "M5 5v14M10 8h9M10 12h9M10 16h6",
  redo: "M15 5l5 5-5 5M20 10H10a6 6 0 0 0 0 12h1",
  strike:
    "M5 12h14M16 7.5C15.5 6 14 5 12 5c-2.5 0-4 1.3-4 3.2M8 16c.5 1.8 2 3 4.2 3 2.5 0 4.3-1.4 4.3-3.5 0-.5-.1-1-.3-1.5",
  tasks: "M11 6h9M11 12h9M11 18h9M3.5 6l1.5 1.5L8 4.5M3.5 12l1.5 1.5 3-3M3.5 18l1.5 1.5 3-3",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  undo: "M9 5l-5 5 5 5M4 10h10a6 6 0 0 1 0 12h-1",
} as const
export type Icon = keyof typeof ICONS

const SVG = "http://www.w3.org/2000/svg"

export function icon(name: Icon): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg")
  svg.setAttribute("viewBox", "0 0 24 24")
  svg.setAttribute("aria-hidden", "true")
  svg.setAttribute("class", "icon")
  const path = document.createElementNS(SVG, "path")
  path.setAttribute("d", ICONS[name])
  svg.append(path)
  return svg
}

/** A modal dialog that is gone when it is closed; resolves with what `close(value)` was called with. */
export function ask(build: (dialog: HTMLDialogElement) => Node[]): Promise<string> {
  return new Promise((resolve) => {
    const dialog = h("dialog", { close: () => finish() })
    const finish = () => {
      dialog.remove()
      resolve(dialog.returnValue)
    }
    // A click beside the dialog lands on the dialog itself: its content covers all of it.
    dialog.addEventListener("mousedown", (event) => event.target === dialog && dialog.close(""))
    dialog.append(h("div", { class: "dialog" }, ...build(dialog)))
    document.body.append(dialog)
    dialog.showModal()
  })
}

export async function confirm(title: string, sentence: string, action: string): Promise<boolean> {
  const answer = await ask((dialog) => [
    h("h2", {}, title),
    h("p", {}, sentence),
    h(
      "div",
      { class: "actions" },
      h("button", { type: "button", class: "plain", click: () => dialog.close("") }, "Cancel"),
      h("button", { type: "button", class: "danger", click: () => dialog.close("yes") }, action),
    ),
  ])
  return answer === "yes"
}
