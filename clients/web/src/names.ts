// Readable names nobody has to think of: adjective and animal for a person, adjective, noun and a tail for a document.
// A document's tail is 40 random bits, so two people who press the button at once do not meet by accident.

const ADJECTIVES = [
  "amber", "brave", "bright", "calm", "clever", "cosy", "curious", "eager", "gentle", "golden", "happy", "humble",
  "jolly", "keen", "kind", "lively", "lucky", "mellow", "merry", "mild", "nimble", "patient", "polite", "proud",
  "quick", "quiet", "rosy", "silver", "spry", "steady", "sunny", "swift", "tidy", "warm", "wise", "witty",
] as const
const ANIMALS = [
  "badger", "beaver", "bison", "crane", "dolphin", "falcon", "ferret", "finch", "fox", "gecko", "hare", "hedgehog",
  "heron", "ibis", "jackdaw", "kestrel", "koala", "lark", "lemur", "lynx", "magpie", "marten", "mole", "otter",
  "owl", "panda", "penguin", "puffin", "raven", "robin", "seal", "sparrow", "stork", "swan", "turtle", "wren",
] as const
const THINGS = [
  "atlas", "bridge", "canvas", "cloud", "compass", "feather", "field", "forest", "garden", "harbour", "island", "lake",
  "lantern", "ledger", "letter", "meadow", "notebook", "orchard", "page", "paper", "pebble", "quill", "river", "sketch",
] as const
const TAIL_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
const TAIL_LENGTH = 8

export type Random = (below: number) => number

const fair: Random = (below) => Math.floor((crypto.getRandomValues(new Uint32Array(1))[0]! / 2 ** 32) * below)

function pick(words: readonly string[], random: Random): string {
  return words[random(words.length)]!
}

export function personName(random: Random = fair): string {
  const name = `${pick(ADJECTIVES, random)} ${pick(ANIMALS, random)}`
  return name[0]!.toUpperCase() + name.slice(1)
}

export function documentName(random: Random = fair): string {
  const tail = Array.from({ length: TAIL_LENGTH }, () => TAIL_ALPHABET[random(TAIL_ALPHABET.length)]!)
  return `${pick(ADJECTIVES, random)}-${pick(THINGS, random)}-${tail.join("")}`
}

/** The server's rule for document names (`collab/protocol/names.py`). */
export function isDocumentName(name: string): boolean {
  return /^[A-Za-z0-9_:~-][A-Za-z0-9._:~-]{0,199}$/.test(name)
}
