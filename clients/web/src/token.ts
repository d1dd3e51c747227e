// The token of JWT mode: taken once from `#token=`, kept for this tab, never left in the address bar.
// Its claims are read without checking them, only to know whose drawer offline edits go to and whether to show an
// editor or a reader; the server checks everything again.

const KEY = "collab.token"

export type Claims = { readonly subject: string; readonly name: string | null; readonly grants: Map<string, string> }

export function takeToken(place: Location, history: History, drawer: Storage): string | null {
  const fragment = new URLSearchParams(place.hash.slice(1))
  const given = fragment.get("token")
  if (given !== null) {
    drawer.setItem(KEY, given)
    history.replaceState(history.state, "", place.pathname + place.search)
  }
  return drawer.getItem(KEY)
}

export function claimsOf(token: string | null): Claims | null {
  try {
    const part = token?.split(".")[1] ?? ""
    const bytes = Uint8Array.from(atob(part.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0))
    const claims = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>
    const grants = new Map(Object.entries((claims.documents ?? {}) as Record<string, string>))
    if (typeof claims.access === "string" && !grants.has("*")) grants.set("*", claims.access)
    return { subject: String(claims.sub), name: typeof claims.name === "string" ? claims.name : null, grants }
  } catch {
    return null
  }
}

const WRITERS: readonly unknown[] = ["write", "admin"]

/** The rule of `collab/server/auth.py`: the full name, else the longest beginning. Without a token all may write. */
export function mayWrite(claims: Claims | null, document: string): boolean {
  if (claims === null) return true
  const exact = claims.grants.get(document)
  if (exact !== undefined) return WRITERS.includes(exact)
  const reaching = [...claims.grants.keys()].filter((p) => p.endsWith("*") && document.startsWith(p.slice(0, -1)))
  reaching.sort((a, b) => b.length - a.length)
  return reaching[0] !== undefined && WRITERS.includes(claims.grants.get(reaching[0]))
}
