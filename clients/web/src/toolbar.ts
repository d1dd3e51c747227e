// The formatting toolbar: one tab stop, arrow keys between buttons (the ARIA toolbar pattern), pressed states that
// follow the cursor.

import type { ChainedCommands, Editor } from "@tiptap/core"
import { h, type Icon, icon } from "./dom.ts"

type Tool = {
  readonly icon: Icon
  readonly label: string
  readonly keys?: string
  readonly run: (chain: ChainedCommands) => ChainedCommands
  readonly active?: (editor: Editor) => boolean
}

const MOD = /Mac|iPhone|iPad/.test(navigator.userAgent) ? "⌘" : "Ctrl+"

const GROUPS: readonly (readonly Tool[])[] = [
  [
    { icon: "undo", label: "Undo", keys: "Z", run: (c) => c.undo() },
    { icon: "redo", label: "Redo", keys: "Shift+Z", run: (c) => c.redo() },
  ],
  [
    tool("heading1", "Large heading", "heading", (c) => c.toggleHeading({ level: 1 }), { level: 1 }),
    tool("heading2", "Small heading", "heading", (c) => c.toggleHeading({ level: 2 }), { level: 2 }),
  ],
  [
    { ...tool("bold", "Bold", "bold", (c) => c.toggleBold()), keys: "B" },
    { ...tool("italic", "Italic", "italic", (c) => c.toggleItalic()), keys: "I" },
    { ...tool("strike", "Strikethrough", "strike", (c) => c.toggleStrike()), keys: "Shift+S" },
    { ...tool("code", "Code", "code", (c) => c.toggleCode()), keys: "E" },
  ],
  [
    tool("bullets", "Bullet list", "bulletList", (c) => c.toggleBulletList()),
    tool("numbers", "Numbered list", "orderedList", (c) => c.toggleOrderedList()),
    tool("tasks", "Task list", "taskList", (c) => c.toggleTaskList()),
  ],
  [
    tool("quote", "Quote", "blockquote", (c) => c.toggleBlockquote()),
    tool("codeBlock", "Code block", "codeBlock", (c) => c.toggleCodeBlock()),
  ],
]

export function toolbar(editor: Editor): HTMLElement {
  const buttons: [HTMLButtonElement, Tool][] = []
  const groups = GROUPS.map((tools) =>
    h(
      "div",
      { class: "tools", role: "group" },
      ...tools.map((each) => {
        const button = toolButton(editor, each)
        buttons.push([button, each])
        return button
      }),
    ),
  )
  const bar = h("div", { class: "toolbar", role: "toolbar", "aria-label": "Formatting" }, ...groups)
  const all = buttons.map(([button]) => button)
  rove(bar, all)
  const refresh = () => {
    for (const [button, { active, run }] of buttons) {
      if (active !== undefined) button.setAttribute("aria-pressed", String(active(editor)))
      // Not `disabled`: that would throw the focus away while the button has it.
      else button.setAttribute("aria-disabled", String(!run(editor.can().chain()).run()))
    }
  }
  editor.on("transaction", refresh)
  refresh()
  return bar
}

function tool(
  name: Icon,
  label: string,
  node: string,
  run: Tool["run"],
  attributes: Record<string, unknown> = {},
): Tool {
  return { icon: name, label, run, active: (editor) => editor.isActive(node, attributes) }
}

function toolButton(editor: Editor, { icon: name, label, keys, run }: Tool): HTMLButtonElement {
  return h(
    "button",
    {
      type: "button",
      "aria-label": label,
      title: keys === undefined ? label : `${label} (${MOD}${keys})`,
      // Pressing a button keeps the selection, and the keyboard of a phone stays up.
      mousedown: (event: MouseEvent) => event.preventDefault(),
      click: () => run(editor.chain().focus()).run(),
    },
    icon(name),
  )
}

function rove(bar: HTMLElement, buttons: HTMLButtonElement[]): void {
  buttons.forEach((button, index) => (button.tabIndex = index === 0 ? 0 : -1))
  bar.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement)
    const step: Record<string, number> = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }
    const next = step[event.key]
    if (at < 0 || next === undefined) return
    event.preventDefault()
    const target = buttons[(next + buttons.length) % buttons.length]!
    for (const button of buttons) button.tabIndex = button === target ? 0 : -1
    target.focus()
  })
}
