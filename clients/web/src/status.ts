// The pill that says how the user's work stands. It may be late to say "Saved", never early.

import { h } from "./dom.ts"
import type { Report } from "./connection.ts"
import type { Status } from "./state.ts"
import { OFFLINE_WITHOUT_STORAGE, STATUS_DETAIL, STATUS_LABEL } from "./words.ts"

/** While somebody types, every key makes "unsaved" and its commit "saved": wait a little before the good news. */
const GOOD_NEWS_AFTER_MS = 300

export class StatusPill {
  readonly element: HTMLElement
  readonly #label = h("span", { class: "label" })
  readonly #detail = h("span", { class: "detail" })
  #shown: Status | null = null
  #later: ReturnType<typeof setTimeout> | undefined

  constructor() {
    this.element = h(
      "div",
      { class: "status", role: "status" },
      h("span", { class: "dot", "aria-hidden": "true" }),
      this.#label,
      this.#detail,
    )
  }

  show(report: Report): void {
    clearTimeout(this.#later)
    if (report.status === "saved" && this.#shown === "unsaved") {
      this.#later = setTimeout(() => this.#set(report), GOOD_NEWS_AFTER_MS)
    } else {
      this.#set(report)
    }
  }

  #set({ status, kept }: Report): void {
    this.#shown = status
    const detail = status === "offline" && !kept ? OFFLINE_WITHOUT_STORAGE : STATUS_DETAIL[status]
    if (this.element.dataset.status === status && this.#detail.textContent === detail) return
    this.element.dataset.status = status
    this.element.title = detail
    this.#label.textContent = STATUS_LABEL[status]
    this.#detail.textContent = detail
  }
}
