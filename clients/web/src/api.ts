// The REST calls the page makes. Every failure is a `Refusal` with a status (0: the server was not reached) and a
// sentence fit for the user.

export type Listed = {
  readonly name: string
  readonly title: string | null
  readonly updated_at: string
  readonly bytes: number
}
type Page = { readonly documents: readonly Listed[]; readonly next: string | null }

const PAGE = 50
const WRITERS: readonly string[] = ["write", "admin"]
/** A list longer than this is cut, and says so. */
export const MOST_LISTED = 1000

export class Refusal extends Error {
  readonly status: number
  constructor(status: number, sentence: string) {
    super(sentence)
    this.status = status
  }

  /** Whether the same may be asked again soon: nothing was decided. */
  get passing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500
  }
}

export class Api {
  #token: string | null
  constructor(token: string | null) {
    this.#token = token
  }

  renew(token: string): void {
    this.#token = token
  }

  /** Every document the server shows us, up to a bound. */
  async list(): Promise<{ documents: Listed[]; cut: boolean }> {
    const documents: Listed[] = []
    let cursor: string | null = null
    do {
      const query = new URLSearchParams({ limit: String(PAGE), ...(cursor === null ? {} : { cursor }) })
      const page = (await this.#call("GET", `?${query}`)) as Page
      documents.push(...page.documents)
      cursor = page.next
    } while (cursor !== null && documents.length < MOST_LISTED)
    return { documents, cut: cursor !== null }
  }

  async get(name: string): Promise<Listed> {
    return (await this.#call("GET", `/${name}`)) as Listed
  }

  /** Whether the server takes changes from us; it knows grants and links, which no token tells. */
  async mayWrite(name: string): Promise<boolean> {
    const { role } = (await this.#call("GET", `/${name}/role`)) as { role: string }
    return WRITERS.includes(role)
  }

  async text(name: string): Promise<string> {
    return (await this.#call("GET", `/${name}/content?format=text`)) as string
  }

  async create(name: string, title?: string): Promise<void> {
    await this.#call("POST", "", title === undefined ? { name } : { name, title })
  }

  /** Sets the title; a document that nobody wrote to yet comes into being with it. */
  async rename(name: string, title: string): Promise<void> {
    try {
      await this.#call("PATCH", `/${name}`, { title })
    } catch (error) {
      if (!(error instanceof Refusal) || error.status !== 404) throw error
      await this.create(name, title)
    }
  }

  async remove(name: string): Promise<void> {
    await this.#call("DELETE", `/${name}`)
  }

  async #call(method: string, path: string, body?: object): Promise<unknown> {
    const headers: Record<string, string> = body === undefined ? {} : { "Content-Type": "application/json" }
    if (this.#token !== null) headers.Authorization = `Bearer ${this.#token}`
    let reply: Response
    try {
      reply = await fetch(`/v1/documents${path}`, {
        method,
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
    } catch {
      throw new Refusal(0, "The server cannot be reached right now.")
    }
    const json = reply.headers.get("content-type")?.includes("json") === true
    const answer: unknown = reply.status === 204 ? null : json ? await reply.json() : await reply.text()
    if (!reply.ok) throw new Refusal(reply.status, sentenceOf(reply.status, answer))
    return answer
  }
}

function sentenceOf(status: number, problem: unknown): string {
  if (status === 401) return "Please sign in: open this page by a link that carries your token."
  const detail = (problem as { detail?: unknown } | null)?.detail
  return typeof detail === "string" ? detail : `The server refused this (${status}).`
}
