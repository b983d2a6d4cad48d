/** Text that may hold anything, made fit to be shown. */

/** Controls (C0, DEL, C1), line separators, and what is invisible or turns the order of letters around. */
const UNPRINTABLE = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu

/**
 * The text as one line that shows all that is in it: controls, line breaks, invisible characters and those
 * that change the order of letters are written as `\uXXXX`, so a name neither steers a terminal nor shows
 * as another one. Joiners within words and emoji (U+200C, U+200D) stay. Messages of plinth's errors are made
 * so already; names, types and labels come as they are on the device. Inside of JSON it changes no meaning.
 */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escaped)
}

/** In UTF-16, as JSON and JavaScript read it. */
function escaped(character: string): string {
  let codes = ''
  for (let i = 0; i < character.length; i++) {
    codes += `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`
  }
  return codes
}
