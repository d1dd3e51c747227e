// What the page may say about the user's work: connecting, offline, unsaved, saved, or closed for good.
// Pure: facts and events in, facts out. "Saved" is never guessed: it needs the server's echo of exactly the version
// this page has now, on the socket that is open now (message 102; the server echoes after its commit).

export type Facts = {
  readonly link: "first" | "open" | "lost" | "closed"
  /** The server's state has arrived on this socket. */
  readonly synced: boolean
  /** Everything the server lacked when it asked has been sent on this socket. */
  readonly answered: boolean
  /** Counts local edits; what is announced to the server. */
  readonly version: number
  /** The last version the server echoed on this socket. */
  readonly acknowledged: number | null
  /** Close code, once closed for good. */
  readonly code: number | null
}

export type Happening =
  | { readonly type: "opened" }
  | { readonly type: "synced" }
  | { readonly type: "answered" }
  | { readonly type: "edited" }
  | { readonly type: "acknowledged"; readonly version: number }
  | { readonly type: "lost" }
  | { readonly type: "refused"; readonly code: number }

export type Status = "connecting" | "offline" | "unsaved" | "saved" | "closed"

export const START: Facts = {
  link: "first",
  synced: false,
  answered: false,
  version: 0,
  acknowledged: null,
  code: null,
}

const NOTHING_HEARD = { synced: false, answered: false, acknowledged: null } as const

export function after(facts: Facts, happening: Happening): Facts {
  if (facts.link === "closed") return happening.type === "edited" ? { ...facts, version: facts.version + 1 } : facts
  switch (happening.type) {
    case "opened":
      return { ...facts, ...NOTHING_HEARD, link: "open" }
    case "lost":
      return { ...facts, ...NOTHING_HEARD, link: "lost" }
    case "refused":
      return { ...facts, ...NOTHING_HEARD, link: "closed", code: happening.code }
    case "edited":
      return { ...facts, version: facts.version + 1 }
    case "synced":
      return facts.link === "open" ? { ...facts, synced: true } : facts
    case "answered":
      return facts.link === "open" ? { ...facts, answered: true } : facts
    case "acknowledged":
      // An echo before our state went out says nothing about our state.
      return facts.link === "open" && facts.answered ? { ...facts, acknowledged: happening.version } : facts
  }
}

export function statusOf(facts: Facts): Status {
  switch (facts.link) {
    case "first":
      return "connecting"
    case "lost":
      return "offline"
    case "closed":
      return "closed"
    case "open":
      if (!facts.synced || !facts.answered) return "connecting"
      // Equal, not "at least": a version this page never had acknowledges nothing.
      return facts.acknowledged === facts.version ? "saved" : "unsaved"
  }
}
