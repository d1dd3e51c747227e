// The token of JWT mode: taken once from `#token=`, kept for this tab, never left in the address bar.
// It may also be a link's secret, which says nothing. A token's claims are read without checking them, only to know whose
// drawer offline edits go to and what to call the user; what the user may do only the server knows.

const KEY = "collab.token"

export type Claims = { readonly subject: string; readonly name: string | null }

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
    return { subject: String(claims.sub), name: typeof claims.name === "string" ? claims.name : null }
  } catch {
    return null
  }
}
