// The rules of state.ts: when the page may say "Saved", and when it must not.

import assert from "node:assert/strict"
import { test } from "node:test"
import { type Happening, START, after, statusOf } from "../src/state.ts"

const OPEN: readonly Happening[] = [{ type: "opened" }, { type: "answered" }, { type: "synced" }]
const echo = (version: number): Happening => ({ type: "acknowledged", version })
const edit: Happening = { type: "edited" }
const facts = (...happenings: readonly Happening[]) => happenings.reduce(after, START)
const status = (...happenings: readonly Happening[]) => statusOf(facts(...happenings))

test("a page that never reached the server is connecting, then offline", () => {
  assert.equal(status(), "connecting")
  assert.equal(status({ type: "lost" }), "offline")
})

test("an open socket is connecting until both sides have exchanged their state", () => {
  assert.equal(status({ type: "opened" }), "connecting")
  assert.equal(status({ type: "opened" }, { type: "synced" }), "connecting")
  assert.equal(status({ type: "opened" }, { type: "answered" }), "connecting")
})

test("k1 without an echo nothing is saved, not even an untouched document", () => {
  assert.equal(status(...OPEN), "unsaved")
  assert.equal(status(...OPEN, echo(0)), "saved")
})

test("k1 an edit is unsaved until exactly its version is echoed", () => {
  assert.equal(status(...OPEN, echo(0), edit), "unsaved")
  assert.equal(status(...OPEN, echo(0), edit, edit, echo(1)), "unsaved")
  assert.equal(status(...OPEN, echo(0), edit, edit, echo(1), echo(2)), "saved")
})

test("k1 a version this page never had acknowledges nothing", () => {
  assert.equal(status(...OPEN, edit, echo(2)), "unsaved")
  assert.equal(
    status(...OPEN, edit, echo(2), edit),
    "saved",
    "until the page itself gets there, and it is the newest echo",
  )
})

test("an echo before our state went out says nothing about our state", () => {
  assert.equal(status({ type: "opened" }, echo(0), { type: "answered" }, { type: "synced" }), "unsaved")
})

test("a lost connection is offline at once, and what was acknowledged must be acknowledged again", () => {
  const saved = [...OPEN, edit, echo(1)]
  assert.equal(status(...saved, { type: "lost" }), "offline")
  assert.equal(status(...saved, { type: "lost" }, edit), "offline")
  assert.equal(status(...saved, { type: "lost" }, ...OPEN), "unsaved")
  assert.equal(status(...saved, { type: "lost" }, edit, ...OPEN, echo(1)), "unsaved")
  assert.equal(status(...saved, { type: "lost" }, edit, ...OPEN, echo(1), echo(2)), "saved")
})

test("what arrives after a loss belongs to a dead socket", () => {
  assert.equal(status(...OPEN, { type: "lost" }, { type: "synced" }, { type: "answered" }, echo(0)), "offline")
})

test("c2 closed for good stays closed, whatever happens after it", () => {
  const closed = facts(...OPEN, { type: "refused", code: 4410 })
  for (const later of [...OPEN, echo(0), edit, { type: "lost" } as const]) {
    assert.equal(statusOf(after(closed, later)), "closed")
    assert.equal(after(closed, later).code, 4410)
  }
})

test("k1 in every history of seven happenings, saved implies the newest version was echoed on this socket", () => {
  const kinds: readonly Happening[] = [...OPEN, edit, { type: "lost" }, echo(0), echo(1)]
  const walk = (at: typeof START, since: readonly Happening[], left: number): void => {
    if (statusOf(at) === "saved") {
      const socket = since.slice(since.findLastIndex(({ type }) => type === "opened"))
      assert.ok(socket.some((one) => one.type === "acknowledged" && one.version === at.version))
      assert.ok(!socket.some(({ type }) => type === "lost"))
    }
    if (left > 0) for (const next of kinds) walk(after(at, next), [...since, next], left - 1)
  }
  walk(START, [], 7)
})
