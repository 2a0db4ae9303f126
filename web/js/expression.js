// Arithmetic as ComfyUI's Math Expression node writes it, which is Python's.

/** Fewest and most values, and what is made of them. @type {Record<string, [number, number, (...values: number[]) => number]>} */
const FUNCTIONS = {
  abs: [1, 1, Math.abs],
  ceil: [1, 1, Math.ceil],
  float: [1, 1, (value) => value],
  floor: [1, 1, Math.floor],
  int: [1, 1, Math.trunc],
  max: [2, Infinity, Math.max],
  min: [2, Infinity, Math.min],
  pow: [2, 2, (base, power) => base ** power],
  round: [1, 1, roundHalfEven],
  sqrt: [1, 1, Math.sqrt],
  sum: [1, Infinity, (...values) => values.reduce((total, value) => total + value, 0)],
}
/** @type {Record<string, (a: number, b: number) => number>} */
const OPERATORS = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '//': (a, b) => Math.round((a - modulo(a, b)) / b),
  '%': modulo,
}
const LONGEST = 300 // characters; also bounds how deep it nests
const TOKEN = /\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(\*\*|\/\/|[-+*/%(),]))/y

/**
 * With the sign of `b`.
 * @param {number} a
 * @param {number} b
 */
function modulo(a, b) {
  const rest = a % b
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest
}

/** @param {number} value */
function roundHalfEven(value) {
  const floor = Math.floor(value)
  const isTie = value - floor === 0.5
  return isTie ? floor + Math.abs(floor % 2) : Math.round(value)
}

/** An expression that is not arithmetic, or that has no value. */
class Unreadable extends Error {}

/**
 * @param {number} value
 * @param {string} text
 */
function finite(value, text) {
  if (!Number.isFinite(value)) throw new Unreadable(text)
  return value
}

/**
 * @param {string} text
 * @param {Record<string, number>} names the values of the variables in it
 * @returns {number | null} null for what is not arithmetic of these, or has no value
 */
export function evaluate(text, names) {
  if (text.length > LONGEST) return null
  try {
    return new Reader(text, names).whole()
  } catch (error) {
    if (error instanceof Unreadable) return null
    throw error
  }
}

class Reader {
  /** @type {{kind: 'number' | 'name' | 'sign' | 'end', text: string}} */
  #token = { kind: 'end', text: '' }
  #at = 0

  /**
   * @param {string} text
   * @param {Record<string, number>} names
   */
  constructor(text, names) {
    this.text = text.trim()
    this.names = names
    this.#advance()
  }

  whole() {
    const value = this.#sum()
    if (this.#token.kind !== 'end') throw new Unreadable(this.#token.text)
    return value
  }

  #advance() {
    TOKEN.lastIndex = this.#at
    const found = TOKEN.exec(this.text)
    if (!found && this.#at < this.text.length) throw new Unreadable(this.text.slice(this.#at))
    this.#at = TOKEN.lastIndex
    const [, number, name, sign] = found ?? []
    const kind = number !== undefined ? 'number' : name !== undefined ? 'name' : sign !== undefined ? 'sign' : 'end'
    this.#token = { kind, text: number ?? name ?? sign ?? '' }
    if (kind === 'end') this.#at = this.text.length
  }

  /** Whether a sign comes next, which is then read. @param {string[]} signs @returns {string | null} */
  #read(...signs) {
    const { kind, text } = this.#token
    if (kind !== 'sign' || !signs.includes(text)) return null
    this.#advance()
    return text
  }

  /** @param {string} sign */
  #expect(sign) {
    if (!this.#read(sign)) throw new Unreadable(`${sign} expected at ${this.#token.text}`)
  }

  #sum() {
    return this.#chain(['+', '-'], () => this.#product())
  }

  #product() {
    return this.#chain(['*', '/', '//', '%'], () => this.#signed())
  }

  /**
   * @param {string[]} signs
   * @param {() => number} next
   */
  #chain(signs, next) {
    let value = next()
    for (let sign = this.#read(...signs); sign; sign = this.#read(...signs))
      value = finite(OPERATORS[sign](value, next()), sign)
    return value
  }

  /** @returns {number} */
  #signed() {
    const sign = this.#read('+', '-')
    if (sign) return sign === '-' ? -this.#signed() : this.#signed()
    const base = this.#atom()
    return this.#read('**') ? finite(base ** this.#signed(), '**') : base
  }

  /** @returns {number} */
  #atom() {
    const { kind, text } = this.#token
    if (this.#read('(')) {
      const value = this.#sum()
      this.#expect(')')
      return value
    }
    this.#advance()
    if (kind === 'number') return finite(Number(text), text)
    if (kind !== 'name') throw new Unreadable(text)
    if (!this.#read('(')) {
      if (!Object.hasOwn(this.names, text)) throw new Unreadable(text)
      return this.names[text]
    }
    const values = [this.#sum()]
    while (this.#read(',')) values.push(this.#sum())
    this.#expect(')')
    const [fewest, most, apply] = Object.hasOwn(FUNCTIONS, text) ? FUNCTIONS[text] : [1, 0, Math.abs]
    if (values.length < fewest || values.length > most) throw new Unreadable(text)
    return finite(apply(...values), text)
  }
}
