// What the page makes of expressions: [{text, names}, ...] on the standard input, a list of numbers and nulls on the
// standard output.
import { readFileSync } from 'node:fs'
import { evaluate } from '../../web/js/expression.js'

const cases = JSON.parse(readFileSync(0, 'utf8'))
console.log(JSON.stringify(cases.map(({ text, names }) => evaluate(text, names))))
