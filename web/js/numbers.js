// Numbers as Python's format "g" writes them, so that both sides say the same.

const DIGITS = 6

/**
 * Digits and exponent, rounded half to even: JavaScript rounds exact ties up.
 * @param {number} value finite, not negative
 * @returns {[string, number]}
 */
function rounded(value) {
  const exact = value.toExponential(60)
  const tie = /^(\d)\.(\d{5})50*e/.exec(exact)
  const text =
    tie && Number(tie[2].at(-1)) % 2 === 0
      ? `${tie[1]}.${tie[2]}${exact.slice(exact.indexOf('e'))}`
      : value.toExponential(DIGITS - 1)
  const [mantissa, exponent] = text.split('e')
  return [mantissa.replace('.', ''), Number(exponent)]
}

/**
 * Six significant digits without trailing zeros.
 * @param {number} value
 * @returns {string}
 */
export function general(value) {
  if (Number.isNaN(value)) return 'nan'
  const sign = value < 0 || Object.is(value, -0) ? '-' : ''
  const size = Math.abs(value)
  if (size === Infinity) return `${sign}inf`
  const [digits, exponent] = rounded(size)
  const point = (/** @type {string} */ whole, /** @type {string} */ part) => sign + whole + (part ? `.${part}` : '')
  if (exponent < -4 || exponent >= DIGITS) {
    const power = `e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`
    return point(digits[0], digits.slice(1).replace(/0+$/, '')) + power
  }
  const all = exponent < 0 ? '0'.repeat(-exponent) + digits : digits
  const whole = Math.max(exponent, 0) + 1
  return point(all.slice(0, whole), all.slice(whole).replace(/0+$/, ''))
}
