// The editor: Tiptap on the shared fragment, with other people's carets. Content it does not know is never bound to
// it; then there is no editor and the caller shows something else. A reader's editor has a copy of its own.

import { Editor } from "@tiptap/core"
import { Collaboration } from "@tiptap/extension-collaboration"
import { CollaborationCaret } from "@tiptap/extension-collaboration-caret"
import { Placeholder } from "@tiptap/extensions"
import * as Y from "yjs"
import type { Connection } from "./connection.ts"
import { isKnown, isKnownChange, nodesAndMarks } from "./content.ts"
import type { Person } from "./people.ts"
import { caret, selection } from "./presence.ts"

/** The shared type Tiptap editors use unless told otherwise. */
const FRAGMENT = "default"

export type Options = {
  readonly connection: Connection
  readonly person: Person
  readonly element: HTMLElement
  readonly editable: boolean
  readonly placeholder: () => string
  /** Called, at most once, when there is content this editor cannot hold; the editor is gone by then. */
  readonly unshowable: () => void
}

/** Makes the editor, or returns null (after `unshowable`) when the document holds what it cannot edit. */
export function openEditor(options: Options): Editor | null {
  const { doc, provider } = options.connection
  const fragment = doc.getXmlFragment(FRAGMENT)
  if (!isKnown(fragment)) {
    options.unshowable()
    return null
  }
  let editor: Editor | null = null
  const ended = new AbortController()
  const guard = (events: Y.YEvent<Y.AbstractType<unknown>>[]) => {
    if (isKnownChange(events)) return
    ended.abort()
    editor?.destroy()
    options.unshowable()
  }
  // Before the editor's own observer, so that a destroyed editor never sees what it would delete.
  fragment.observeDeep(guard)
  ended.signal.addEventListener("abort", () => fragment.unobserveDeep(guard))
  const shown = options.editable ? doc : copyOf(doc, ended.signal)
  editor = new Editor({
    element: options.element,
    editable: options.editable,
    injectCSS: false,
    // The shared fragment takes its place at once. Without it Tiptap would parse an empty string as HTML, which this
    // page forbids everybody but ProseMirror's clipboard (trusted types).
    content: { type: "doc", content: [{ type: "paragraph" }] },
    extensions: [
      ...nodesAndMarks(),
      Placeholder.configure({ placeholder: options.placeholder }),
      Collaboration.configure({ document: shown, field: FRAGMENT }),
      CollaborationCaret.configure({
        provider,
        user: { ...options.person },
        render: caret,
        selectionRender: selection,
      }),
    ],
    editorProps: {
      attributes: { role: "textbox", "aria-label": "Document", "aria-multiline": "true" },
    },
  })
  editor.on("destroy", () => ended.abort())
  options.element.addEventListener("mousedown", (event) => writeBelow(editor, event), { signal: ended.signal })
  return editor
}

/** A document that follows ``doc`` until ``ended`` and never changes it. The binding removes what does not fit together, such as a row
 * outside a table; from a reader the server takes no change, and ends the session of one who goes on trying. */
function copyOf(doc: Y.Doc, ended: AbortSignal): Y.Doc {
  const copy = new Y.Doc()
  Y.applyUpdate(copy, Y.encodeStateAsUpdate(doc))
  const follow = (update: Uint8Array) => Y.applyUpdate(copy, update)
  doc.on("update", follow)
  ended.addEventListener("abort", () => doc.off("update", follow))
  return copy
}

/** A click below a last table or code block asks for a paragraph to write in. */
function writeBelow(editor: Editor, event: MouseEvent): void {
  const { lastChild, content } = editor.state.doc
  const below =
    event.target === editor.view.dom && event.offsetY > (editor.view.dom.lastElementChild as HTMLElement).offsetTop
  if (!below || !editor.isEditable || lastChild === null || lastChild.type.name === "paragraph") return
  event.preventDefault()
  editor.chain().insertContentAt(content.size, { type: "paragraph" }).focus("end").run()
}
