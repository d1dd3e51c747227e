// What peers say about themselves is bounded before it is shown, and the names we make up are valid.

import assert from "node:assert/strict"
import { test } from "node:test"
import { documentName, isDocumentName, personName } from "../src/names.ts"
import { COLORS, MAX_NAME_LENGTH, NAMELESS, initials, personOf, safeColor, safeName, stateOf, textOn } from "../src/people.ts"
import { claimsOf } from "../src/token.ts"

test("h03 a colour that is more than a colour is replaced", () => {
  for (const bad of ["red;background:url(//evil.example/x)", "#12345", "#1234567", "#12345g", "", null, 7, {}]) {
    assert.match(safeColor(bad), /^#[0-9a-f]{6}$/)
    assert.notEqual(safeColor(bad), bad)
  }
  assert.equal(safeColor("#AABBCC"), "#aabbcc")
})

test("names are cut, cleaned of what cannot be seen, and never empty", () => {
  assert.equal(safeName("x".repeat(10_000_000)).length, MAX_NAME_LENGTH)
  assert.equal(safeName("  two\u0000 \u202ewords\n"), "two words")
  for (const empty of ["", " ", "\u200b", undefined, null, 5, {}]) assert.equal(safeName(empty), NAMELESS)
  assert.deepEqual(personOf("nonsense"), personOf(null))
})

test("a name of symbols outside the basic plane is not cut in half", () => {
  assert.equal(safeName("🦊".repeat(60)), "🦊".repeat(MAX_NAME_LENGTH))
  assert.equal(initials("🦊 fox"), "🦊F")
})

test("the text on each of our colours has a contrast of at least 4.5", () => {
  const channel = (hex: string) => {
    const value = Number.parseInt(hex, 16) / 255
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  }
  for (const color of COLORS) {
    const [red, green, blue] = [color.slice(1, 3), color.slice(3, 5), color.slice(5)].map(channel)
    assert.equal(textOn(color), "#ffffff")
    assert.ok(1.05 / (0.2126 * red! + 0.7152 * green! + 0.0722 * blue! + 0.05) >= 4.5, color)
  }
  assert.equal(textOn("#ffffff"), "#000000")
})

test("made up names are document names, and two at once differ", () => {
  const names = Array.from({ length: 100 }, () => documentName())
  assert.ok(names.every(isDocumentName))
  assert.equal(new Set(names).size, 100)
  assert.equal(
    personName(() => 0),
    "Amber badger",
  )
})

test("the server's rule for document names holds here too", () => {
  for (const good of ["a", "acme:specs:42", "~x", "A.b-c_d", "x".repeat(200)]) assert.ok(isDocumentName(good), good)
  for (const bad of ["", ".x", "a/b", "a b", "ä", "x".repeat(201), "a\n"]) assert.ok(!isDocumentName(bad), bad)
})

test("a token says who the user is, and a link or nothing says nothing", () => {
  const token = (claims: object) => `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`
  assert.deepEqual(claimsOf(token({ sub: "u", name: "Ünï", access: "read" })), { subject: "u", name: "Ünï" })
  assert.deepEqual(claimsOf(token({ sub: "u" })), { subject: "u", name: null })
  for (const nothing of [null, "", "not a token", `cl_${"A".repeat(43)}`]) assert.equal(claimsOf(nothing), null)
})

test("h03 of a peer's state only what this page reads is kept, in the form it is read in", () => {
  const id = { client: 5, clock: 7 }
  const good = { type: null, tname: "default", item: id, assoc: -1 }
  assert.deepEqual(stateOf({ cursor: { anchor: good, head: { item: id } }, titled: 4, other: "x" }), {
    cursor: { anchor: good, head: { item: id } },
    titled: 4,
  })
  assert.deepEqual(stateOf({ user: { name: "Ann", color: "#AABBCC", style: "x" } }), {
    user: { name: "Ann", color: "#aabbcc" },
  })
  for (const nothing of [null, undefined, 7, "text", [], { titled: "1" }]) assert.deepEqual(stateOf(nothing), {})
  const bad = [
    null,
    7,
    "x",
    [],
    {},
    { item: {} },
    { item: [5, 7] },
    { item: { client: 5, clock: -1 } },
    { item: { client: 5, clock: 0.5 } },
    { item: { client: "5", clock: 7 } },
    { item: { client: 2 ** 60, clock: 7 } },
    { tname: 7 },
    { tname: "x".repeat(1000) },
    { ...good, assoc: "x" },
    { ...good, type: "x" },
  ]
  for (const anchor of bad) {
    assert.deepEqual(stateOf({ cursor: { anchor, head: good } }), {}, JSON.stringify(anchor))
    assert.deepEqual(stateOf({ cursor: { anchor: good, head: anchor } }), {}, JSON.stringify(anchor))
  }
})
