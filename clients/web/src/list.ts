// The list of documents: newest first, searchable, with one button to begin a new one.

import { type Api, type Listed, MOST_LISTED } from "./api.ts"
import { forget } from "./connection.ts"
import { confirm, h, icon } from "./dom.ts"
import { documentName } from "./names.ts"

const SEARCH_FROM = 8
const UNTITLED = "Untitled"

export type Options = { readonly api: Api; readonly subject: string }

export function listPage({ api, subject }: Options): HTMLElement {
  const rows = h("ul", { class: "documents" })
  const note = h("p", { class: "note", role: "status" }, "Loading…")
  const search = h("input", { type: "search", placeholder: "Search", "aria-label": "Search documents", hidden: true })
  const create = h(
    "button",
    { type: "button", class: "primary", click: () => void begin() },
    icon("plus"),
    "New document",
  )
  let all: Listed[] = []
  let cut = false

  const say = (sentence: string) => (note.textContent = sentence)
  const show = () => {
    const wanted = search.value.trim().toLowerCase()
    const shown = all.filter(({ name, title }) => `${title ?? ""} ${name}`.toLowerCase().includes(wanted))
    rows.replaceChildren(...shown.map((document) => row(document, () => void remove(document))))
    search.hidden = all.length < SEARCH_FROM
    if (all.length === 0) say("No documents yet. Begin the first one; whoever has its address can write with you.")
    else if (shown.length === 0) say("Nothing matches.")
    else say(cut ? `Only the first ${MOST_LISTED} documents by name are listed.` : "")
  }
  const load = async () => {
    try {
      const answer = await api.list()
      cut = answer.cut
      all = answer.documents.sort((a, b) => Date.parse(b.updated_at) - Date.parse(a.updated_at))
      show()
    } catch (error) {
      say((error as Error).message)
    }
  }
  const begin = async () => {
    create.disabled = true
    const name = documentName()
    try {
      await api.create(name)
      location.assign(`/d/${name}`)
    } catch (error) {
      say((error as Error).message)
      create.disabled = false
    }
  }
  const remove = async (document: Listed) => {
    const title = document.title || UNTITLED
    if (!(await confirm(`Delete “${title}”?`, "It is deleted for everybody, and its address stays taken.", "Delete")))
      return
    try {
      await api.remove(document.name)
      forget(subject, document.name)
      all = all.filter(({ name }) => name !== document.name)
      show()
    } catch (error) {
      say((error as Error).message)
    }
  }

  search.addEventListener("input", show)
  document.title = "Documents · collab"
  void load()
  return h(
    "div",
    { class: "list" },
    h(
      "header",
      { class: "list-header" },
      h("img", { src: "/favicon.svg", alt: "", width: "32", height: "32" }),
      h("h1", {}, "Documents"),
      h("div", { class: "spring" }),
      create,
    ),
    h("main", {}, search, rows, note),
  )
}

function row({ name, title, updated_at, bytes }: Listed, remove: () => void): HTMLElement {
  const shown = title || UNTITLED
  const changed = h("time", { datetime: updated_at, title: new Date(updated_at).toLocaleString() }, ago(updated_at))
  return h(
    "li",
    {},
    h(
      "a",
      { href: `/d/${name}` },
      h("span", { class: "name" }, shown),
      h(
        "span",
        { class: "facts" },
        h("span", { class: "id" }, name),
        h("span", {}, changed),
        h("span", {}, size(bytes)),
      ),
    ),
    h(
      "button",
      { type: "button", class: "quiet", "aria-label": `Delete ${shown}`, title: "Delete", click: remove },
      icon("trash"),
    ),
  )
}

function ago(when: string): string {
  const seconds = (Date.parse(when) - Date.now()) / 1000
  const format = new Intl.RelativeTimeFormat("en", { numeric: "auto" })
  if (seconds > -60) return "just now"
  if (seconds > -3600) return format.format(Math.round(seconds / 60), "minute")
  if (seconds > -86400) return format.format(Math.round(seconds / 3600), "hour")
  return format.format(Math.round(seconds / 86400), "day")
}

function size(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`
  const kib = bytes / 1024
  return kib < 1024 ? `${kib.toFixed(kib < 10 ? 1 : 0)} KiB` : `${(kib / 1024).toFixed(1)} MiB`
}
