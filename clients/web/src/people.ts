// Who people say they are: bounded names and colours from awareness states, which any peer can fill with anything.
// Pure. What leaves this file is safe to show as text and to set as a colour.

export type Person = { readonly name: string; readonly color: string }

export const MAX_NAME_LENGTH = 40
export const NAMELESS = "Somebody"
/** White text on each of these has a contrast of at least 4.5. */
export const COLORS = [
  "#b91c1c",
  "#c2410c",
  "#a16207",
  "#4d7c0f",
  "#15803d",
  "#0f766e",
  "#0369a1",
  "#1d4ed8",
  "#6d28d9",
  "#be185d",
] as const
const FALLBACK_COLOR = "#57606a"
// Control and format characters, among them those that turn the direction of the text around them.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu

export function safeColor(color: unknown): string {
  const lower = typeof color === "string" ? color.toLowerCase() : ""
  return /^#[0-9a-f]{6}$/.test(lower) ? lower : FALLBACK_COLOR
}

export function safeName(name: unknown): string {
  if (typeof name !== "string") return NAMELESS
  // Cut before cleaning too: cleaning a name of megabytes is work a peer must not be able to ask for.
  const clean = name
    .slice(0, MAX_NAME_LENGTH * 4)
    .replace(UNSEEN, "")
    .trim()
    .replace(/\s+/g, " ")
  return Array.from(clean).slice(0, MAX_NAME_LENGTH).join("") || NAMELESS
}

export function personOf(user: unknown): Person {
  const fields = (typeof user === "object" && user !== null ? user : {}) as Record<string, unknown>
  return { name: safeName(fields.name), color: safeColor(fields.color) }
}

export function initials(name: string): string {
  const words = name.split(" ").filter((word) => word !== "")
  const letters = words.length > 1 ? [words[0]!, words.at(-1)!] : words
  return letters.map((word) => Array.from(word)[0]!.toUpperCase()).join("")
}

/** Black or white, whichever is read better on the colour (WCAG 2 relative luminance). */
export function textOn(color: string): "#000000" | "#ffffff" {
  const channel = (start: number) => {
    const value = Number.parseInt(color.slice(start, start + 2), 16) / 255
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  }
  const luminance = 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
  return luminance > 0.179 ? "#000000" : "#ffffff"
}

const MOST_CLOCK = 2 ** 53

type Place = Record<string, unknown>

/** The state of a peer with nothing in it but what this page reads, each part of the form it is read in. */
export function stateOf(state: unknown): Place {
  const { user, cursor, titled } = (typeof state === "object" && state !== null ? state : {}) as Place
  const { anchor, head } = (typeof cursor === "object" && cursor !== null ? cursor : {}) as Place
  return {
    ...(user === undefined ? {} : { user: personOf(user) }),
    ...(isPosition(anchor) && isPosition(head) ? { cursor: { anchor, head } } : {}),
    ...(typeof titled === "number" ? { titled } : {}),
  }
}

/** Whether this is a Yjs relative position. The editor's binding fails on what is not, in the middle of drawing. */
function isPosition(position: unknown): boolean {
  if (typeof position !== "object" || position === null) return false
  const { type, tname, item, assoc } = position as Place
  const named = tname === undefined || tname === null || (typeof tname === "string" && tname.length <= 200)
  const sided = assoc === undefined || assoc === null || Number.isInteger(assoc)
  return named && sided && [type, item].every((id) => id === undefined || id === null || isId(id)) && !!(type ?? tname ?? item)
}

function isId(id: unknown): boolean {
  const { client, clock } = (typeof id === "object" && id !== null ? id : {}) as Place
  return [client, clock].every((part) => Number.isInteger(part) && (part as number) >= 0 && (part as number) < MOST_CLOCK)
}
