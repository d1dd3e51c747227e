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
