// The sentences the page says about a document's state and about why it was closed. Nothing else: no DOM, no rules.

import type { Status } from "./state.ts"

export const STATUS_LABEL: Record<Status, string> = {
  connecting: "Connecting",
  offline: "Offline",
  unsaved: "Unsaved",
  saved: "Saved",
  closed: "Closed",
}

export const STATUS_DETAIL: Record<Status, string> = {
  connecting: "Waiting for the server.",
  offline: "Your edits are kept in this browser.",
  unsaved: "The server has not confirmed your last edits yet.",
  saved: "Everything you typed is committed on the server.",
  closed: "The server ended this session for good.",
}

/** Where IndexedDB is missing, nothing outlives the tab, and saying otherwise would be a lie. */
export const OFFLINE_WITHOUT_STORAGE = "Keep this tab open: this browser does not let the page keep your edits."

export const UNSHOWABLE =
  "This document holds content that this page cannot edit, so it is shown as plain text and left untouched."

const CLOSED: Record<number, readonly [title: string, sentence: string]> = {
  4400: ["Something did not fit", "The server could not read what this page sent. Reload the page to go on."],
  4401: ["Please sign in", "This document asks who you are. Open it again by a link that carries your token."],
  4403: ["Not allowed", "You have no access to this document."],
  4404: ["No such document", "There is no document at this address."],
  4410: ["Document deleted", "Somebody deleted this document. It cannot be edited any more."],
  4413: ["Document too large", "This document has reached its size limit. Your last edits were not saved."],
  4415: ["Unsupported encoding", "The server does not support what this page sent. Reload the page to go on."],
}

export function closedFor(code: number): readonly [title: string, sentence: string] {
  return CLOSED[code] ?? ["Session ended", `The server ended this session (code ${code}). Reload the page to go on.`]
}

export const KEPT_HERE = "What you see is kept in this browser, so you can still copy it."
