// What this editor can hold: its nodes and marks, and the question whether a shared fragment has only those.
// The Yjs binding deletes, for everybody, what its schema does not know, so that question is asked before it looks.
// A hostile peer writes what no editor would: attributes are asked about too, where drawing them could do harm.

import { type Extensions, getSchema } from "@tiptap/core"
import { Link } from "@tiptap/extension-link"
import { TaskItem, TaskList } from "@tiptap/extension-list"
import { TableKit } from "@tiptap/extension-table"
import StarterKit from "@tiptap/starter-kit"
import * as Y from "yjs"

const LINK = /^(https?|mailto):/i
/** A table is drawn on a grid of all its cells span, so a few bytes can ask for more than a tab can hold. A guess. */
const MOST_ON_GRID = 1_000_000

/** A link is drawn with its address and nothing else a peer put there: no target, class or rel of theirs. */
const SafeLink = Link.extend({
  renderHTML({ HTMLAttributes: { href } }) {
    const safe = typeof href === "string" && LINK.test(href) ? { href } : {}
    return ["a", { ...safe, rel: "noopener noreferrer nofollow", target: "_blank" }, 0]
  },
})

export function nodesAndMarks(): Extensions {
  return [
    StarterKit.configure({
      // Undo comes with the collaboration extension and takes back one's own edits only.
      undoRedo: false,
      // It would change a document that somebody only opened.
      trailingNode: false,
      link: false,
    }),
    SafeLink.configure({ openOnClick: false, isAllowedUri: (uri) => LINK.test(uri) }),
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
    if (target instanceof Y.XmlElement && !hasHarmlessAttributes(target)) return false
    if (!fitsItsTable(target)) return false
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
  if (!(part instanceof Y.XmlElement) || !(part.nodeName in schema.nodes)) return false
  return hasHarmlessAttributes(part) && (part.nodeName !== "table" || isDrawable(part)) && isKnown(part)
}

type Attributes = Record<string, unknown>

function hasHarmlessAttributes(element: Y.XmlElement): boolean {
  const attributes = element.getAttributes() as Attributes
  if (Object.values(attributes).some((value) => value instanceof Y.AbstractType)) return false
  const { language, colwidth } = attributes
  // The language becomes part of a class, the widths of a style.
  if (language !== undefined && language !== null && !/^[^\s]{0,40}$/.test(String(language))) return false
  return colwidth === undefined || colwidth === null || (Array.isArray(colwidth) && colwidth.every(isCount))
}

function isCount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) > 0 && (value as number) <= MOST_ON_GRID
}

/** Whether the table around ``part``, if any, can still be drawn. */
function fitsItsTable(part: Y.AbstractType<unknown>): boolean {
  for (let at: unknown = part; at instanceof Y.XmlElement; at = at.parent) {
    if (at.nodeName === "table") return isDrawable(at)
  }
  return true
}

/** Whether the grid of a table is bounded: its widest row, and beside it all that hangs down from rows above. */
function isDrawable(table: Y.XmlElement): boolean {
  let widest = 0
  let hanging = 0
  const rows = table.toArray().filter((row) => row instanceof Y.XmlElement)
  for (const row of rows) {
    let width = 0
    for (const cell of row.toArray()) {
      if (!(cell instanceof Y.XmlElement)) continue
      const { colspan = 1, rowspan = 1 } = cell.getAttributes() as Attributes
      if (!isCount(colspan) || !isCount(rowspan)) return false
      width += colspan
      if (rowspan > 1) hanging += colspan
    }
    widest = Math.max(widest, width)
  }
  return (widest + hanging) * rows.length <= MOST_ON_GRID
}
