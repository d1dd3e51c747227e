// What this editor can hold: its nodes and marks, and the question whether a shared fragment has only those.
// The Yjs binding deletes, for everybody, what its schema does not know, so that question is asked before it looks.

import { type Extensions, getSchema } from "@tiptap/core"
import { TaskItem, TaskList } from "@tiptap/extension-list"
import { TableKit } from "@tiptap/extension-table"
import StarterKit from "@tiptap/starter-kit"
import * as Y from "yjs"

const LINK = /^(https?|mailto):/i

export function nodesAndMarks(): Extensions {
  return [
    StarterKit.configure({
      // Undo comes with the collaboration extension and takes back one's own edits only.
      undoRedo: false,
      // It would change a document that somebody only opened.
      trailingNode: false,
      link: {
        openOnClick: false,
        // Asked when a link is drawn too: a hostile peer writes links without asking this editor.
        isAllowedUri: (uri) => LINK.test(uri),
        HTMLAttributes: { rel: "noopener noreferrer nofollow", target: "_blank" },
      },
    }),
    TaskList,
    TaskItem.configure({ nested: true }),
    TableKit,
  ]
}

const schema = getSchema(nodesAndMarks())

/** Whether every element and mark in ``fragment`` is known here. Reads all of it. */
export function isKnown(fragment: Y.XmlFragment): boolean {
  return fragment.toArray().every(isKnownPart)
}

/** The same for what one transaction changed. */
export function isKnownChange(events: readonly Y.YEvent<Y.AbstractType<unknown>>[]): boolean {
  return events.every(({ target, changes }) => {
    if (target instanceof Y.XmlText) return isKnownPart(target)
    return [...changes.added].every(
      (item) => !(item.content instanceof Y.ContentType) || isKnownPart(item.content.type),
    )
  })
}

function isKnownPart(part: unknown): boolean {
  if (part instanceof Y.XmlText) {
    return part.toDelta().every((run: { insert: unknown; attributes?: object }) => {
      // A mark that may stand several times is stored as its name, two hyphens and a hash.
      const marks = Object.keys(run.attributes ?? {}).map((name) => name.replace(/--[A-Za-z0-9+/=]{8}$/, ""))
      return typeof run.insert === "string" && marks.every((name) => name in schema.marks)
    })
  }
  return part instanceof Y.XmlElement && part.nodeName in schema.nodes && isKnown(part)
}
