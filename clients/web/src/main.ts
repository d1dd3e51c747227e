// Which page this is: the list at `/`, a document at `/d/<name>`. Addresses are real ones, so each page is loaded anew
// and leaves nothing of the page before it behind.

import "./style.css"
import { Api } from "./api.ts"
import { DocumentPage } from "./document.ts"
import { h } from "./dom.ts"
import { Identity } from "./identity.ts"
import { listPage } from "./list.ts"
import { isDocumentName } from "./names.ts"
import { claimsOf, takeToken } from "./token.ts"

function page(): HTMLElement {
  const token = takeToken(location, history, sessionStorage)
  const claims = claimsOf(token)
  const api = new Api(token)
  const subject = claims?.subject ?? ""
  const [, encoded] = /^\/d\/([^/]+)$/.exec(location.pathname) ?? []
  if (encoded === undefined) return listPage({ api, subject })
  const name = decoded(encoded)
  if (!isDocumentName(name)) return notFound()
  const identity = new Identity(localStorage, claims?.name ?? null)
  return new DocumentPage({ name, api, identity, token, subject }).element
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return ""
  }
}

function notFound(): HTMLElement {
  return h(
    "main",
    { class: "notice" },
    h("strong", {}, "No such document"),
    h("p", {}, "This is not a document's name."),
    h("a", { href: "/" }, "All documents"),
  )
}

document.querySelector("#app")!.replaceChildren(page())
