// The page of one document: title, state, people, toolbar, text. It puts the other modules together and owns nothing
// but what is on the screen.

import type { Editor } from "@tiptap/core"
import { type Api, Refusal } from "./api.ts"
import { Connection, type Report, forget } from "./connection.ts"
import { confirm, h, icon } from "./dom.ts"
import { openEditor } from "./editor.ts"
import type { Identity } from "./identity.ts"
import { avatar, others, showPeople } from "./presence.ts"
import { START, statusOf } from "./state.ts"
import { StatusPill } from "./status.ts"
import { takeToken } from "./token.ts"
import { toolbar } from "./toolbar.ts"
import { KEPT_HERE, UNSHOWABLE, closedFor } from "./words.ts"

const UNTITLED = "Untitled"
const MAX_TITLE_LENGTH = 200
/** By then a change is committed, most of the time; if not, the next one shows it. A guess. */
const COMMITTED_AFTER_MS = 1000
/** How long the text waits for the server to say whether we may write; then it can be read meanwhile. A guess. */
const TOLD_WITHIN_MS = 3000
/** Pause before a server that could not say so is asked again. A guess. */
const ASK_AGAIN_MS = 1000

export type Options = {
  readonly name: string
  readonly api: Api
  readonly identity: Identity
  readonly token: string | null
  readonly subject: string
}

export class DocumentPage {
  readonly element: HTMLElement
  readonly #options: Options
  readonly #connection: Connection
  readonly #pill = new StatusPill()
  readonly #title = h("input", {
    class: "title",
    "aria-label": "Title",
    placeholder: UNTITLED,
    maxlength: String(MAX_TITLE_LENGTH),
  })
  readonly #people = h("ul", { class: "people" })
  readonly #me = h("button", { type: "button", class: "me", "aria-label": "Your name and colour" })
  readonly #notice = h("div", { class: "notice", role: "alert", hidden: true })
  readonly #bar = h("div", { class: "bar" })
  readonly #text = h("div", { class: "text" })
  readonly #readOnly = h("span", { class: "read-only", hidden: true }, "Read only")
  readonly #delete = h(
    "button",
    {
      type: "button",
      class: "quiet",
      "aria-label": "Delete document",
      title: "Delete document",
      hidden: true,
      click: () => void this.#remove(),
    },
    icon("trash"),
  )
  /** Null until the server has told. */
  #mayWrite: boolean | null = null
  #asked = 0
  #link: Report["facts"]["link"] = "first"
  #shown: "nothing" | "editor" | "text" = "nothing"
  #editor: Editor | null = null
  #titleOnServer = ""
  #titled = ""
  readonly #beforeUnload = (event: BeforeUnloadEvent) => this.#warn(event)

  constructor(options: Options) {
    this.#options = options
    this.#connection = new Connection({
      document: options.name,
      token: options.token,
      subject: options.subject,
      report: (report) => this.#show(report),
      renewed: () => void this.#learnRole(),
    })
    this.element = this.#build()
    this.#pill.show({ status: statusOf(START), facts: START, kept: false })
    window.addEventListener("beforeunload", this.#beforeUnload)
    window.addEventListener("hashchange", () => this.#renew())
    this.#connection.provider.awareness.on("change", () => this.#showOthers())
    this.#showMe()
    void this.#loadTitle()
    const told = this.#learnRole()
    void this.#connection.loaded
      .then(() => Promise.race([told, new Promise((done) => setTimeout(done, TOLD_WITHIN_MS))]))
      .then(() => this.#open())
  }

  close(): void {
    window.removeEventListener("beforeunload", this.#beforeUnload)
    this.#editor?.destroy()
    this.#connection.close()
  }

  #build(): HTMLElement {
    this.#title.addEventListener("change", () => void this.#rename())
    this.#title.addEventListener("input", () => this.#nameTab())
    this.#title.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.#editor?.commands.focus("start")
    })
    this.#title.disabled = true
    this.#me.addEventListener("click", () => void this.#editMe())
    const header = h(
      "header",
      { class: "document-header" },
      h("a", { class: "quiet", href: "/", "aria-label": "All documents", title: "All documents" }, icon("back")),
      this.#title,
      h(
        "div",
        { class: "around" },
        this.#pill.element,
        this.#readOnly,
        h("div", { class: "spring" }),
        this.#people,
        this.#me,
      ),
      this.#delete,
    )
    return h(
      "div",
      { class: "document" },
      h("div", { class: "top" }, header, this.#bar),
      this.#notice,
      h("main", { class: "paper" }, this.#text),
    )
  }

  get #closed(): boolean {
    return this.#connection.facts.link === "closed"
  }

  /** Asks whether we may write, as often as it takes. The newest question counts. */
  async #learnRole(): Promise<void> {
    const asked = ++this.#asked
    let told: boolean | null = null
    while (told === null) {
      told = await this.#options.api.mayWrite(this.#options.name).catch((error: unknown) => {
        return error instanceof Refusal && error.passing && !this.#closed ? null : false
      })
      if (asked !== this.#asked) return
      if (told === null) await new Promise((done) => setTimeout(done, ASK_AGAIN_MS))
    }
    if (told === this.#mayWrite) return
    this.#mayWrite = told
    this.#readOnly.hidden = told
    this.#delete.hidden = !told
    this.#title.disabled = !told || this.#closed
    if (this.#shown === "editor") this.#open()
  }

  /** Opens the text: to be changed when we may, else to be read. Opens it anew when that has changed. */
  #open(): void {
    const editable = this.#mayWrite === true && !this.#closed
    this.#editor?.destroy()
    this.#bar.replaceChildren()
    this.#shown = "editor"
    this.#editor = openEditor({
      connection: this.#connection,
      person: this.#options.identity.person,
      element: this.#text,
      editable,
      placeholder: () => (editable ? "Write something…" : "Nothing here yet"),
      unshowable: () => this.#showAsText(),
    })
    if (this.#editor !== null && editable) this.#bar.append(toolbar(this.#editor))
    if (this.#closed) this.#sayClosed()
  }

  #show(report: Report): void {
    this.#pill.show(report)
    document.documentElement.dataset.status = report.status
    const { link } = report.facts
    // Whoever comes back may find that the role has changed meanwhile.
    if (link === "open" && this.#link === "lost") void this.#learnRole()
    this.#link = link
    if (link === "closed") this.#sayClosed()
  }

  #sayClosed(): void {
    const [title, sentence] = closedFor(this.#connection.facts.code ?? 0)
    this.#editor?.setEditable(false)
    this.#title.disabled = true
    this.#bar.replaceChildren()
    const kept = this.#editor !== null && !this.#editor.isEmpty ? ` ${KEPT_HERE}` : ""
    this.#tell(title, sentence + kept)
  }

  #tell(title: string, sentence: string): void {
    this.#notice.hidden = false
    this.#notice.replaceChildren(h("strong", {}, title), h("p", {}, sentence), h("a", { href: "/" }, "All documents"))
  }

  #warn(event: BeforeUnloadEvent): void {
    const { link, version, acknowledged, answered } = this.#connection.facts
    const unsaved = link === "open" && answered && version !== acknowledged
    const onlyHere = !this.#connection.kept && version > 0 && version !== acknowledged
    if (unsaved || onlyHere) event.preventDefault()
  }

  /** What is committed, and again a while after each change: the change that brought us here is on its way there. */
  #showAsText(): void {
    this.#shown = "text"
    this.#editor = null
    this.#bar.replaceChildren()
    this.#tell("Shown as plain text", UNSHOWABLE)
    const shown = h("pre", { class: "as-text" })
    const refresh = async () => {
      shown.textContent = await this.#options.api.text(this.#options.name).catch((error: Error) => error.message)
    }
    let later: ReturnType<typeof setTimeout> | undefined
    this.#connection.doc.on("update", () => {
      clearTimeout(later)
      later = setTimeout(() => void refresh(), COMMITTED_AFTER_MS)
    })
    this.#text.replaceChildren(shown)
    void refresh()
  }

  async #loadTitle(): Promise<void> {
    const found = await this.#options.api.get(this.#options.name).catch(() => null)
    const title = found?.title ?? ""
    if (document.activeElement !== this.#title || this.#title.value === this.#titleOnServer) this.#title.value = title
    this.#titleOnServer = title
    this.#nameTab()
  }

  async #rename(): Promise<void> {
    const title = this.#title.value.trim()
    if (title === this.#titleOnServer) return
    try {
      await this.#options.api.rename(this.#options.name, title)
      this.#titleOnServer = title
      // Others fetch the title again when this changes; the title itself never comes from a peer.
      this.#connection.provider.awareness.setLocalStateField("titled", Date.now())
      this.#title.removeAttribute("aria-invalid")
      this.#title.title = ""
    } catch (error) {
      this.#title.setAttribute("aria-invalid", "true")
      this.#title.title = `The title is not saved. ${(error as Error).message}`
    }
  }

  #nameTab(): void {
    document.title = `${this.#title.value || UNTITLED} · collab`
  }

  #showOthers(): void {
    const { awareness } = this.#connection.provider
    showPeople(this.#people, others(awareness))
    // All of them, not the newest: one peer with a clock far ahead would hide everybody else's.
    const stamps = [...awareness.getStates()]
      .filter(([client, state]) => client !== awareness.clientID && typeof state.titled === "number")
      .map(([client, state]) => `${client} ${state.titled}`)
      .join()
    if (stamps === this.#titled) return
    this.#titled = stamps
    if (stamps !== "") void this.#loadTitle()
  }

  /** Whoever embeds this page gives it a new token by a new `#token=`. */
  #renew(): void {
    const token = takeToken(location, history, sessionStorage)
    if (token === null) return
    this.#options.api.renew(token)
    this.#connection.renew(token)
  }

  #showMe(): void {
    const { person } = this.#options.identity
    this.#me.replaceChildren(avatar(person, " (you)"))
    this.#connection.provider.awareness.setLocalStateField("user", { ...person })
  }

  async #editMe(): Promise<void> {
    if (await this.#options.identity.edit()) this.#showMe()
  }

  async #remove(): Promise<void> {
    const title = this.#title.value || UNTITLED
    if (!(await confirm(`Delete “${title}”?`, "It is deleted for everybody, and its address stays taken.", "Delete")))
      return
    try {
      await this.#options.api.remove(this.#options.name)
    } catch (error) {
      return this.#tell("Not deleted", (error as Error).message)
    }
    window.removeEventListener("beforeunload", this.#beforeUnload)
    forget(this.#options.subject, this.#options.name)
    location.assign("/")
  }
}
