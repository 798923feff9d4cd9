// Text that can do nothing, and places in it. A place is a number of characters (code points), as
// the service counts them; the page's own strings count UTF-16 units, so they are never mixed.

const HIDDEN = /^[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}]$/u;

/** An element with text and attributes; text never becomes markup. */
export function make(name, text, attributes = {}, ...children) {
  const element = document.createElement(name);
  if (text !== null && text !== undefined) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Whether a character cannot be seen, turns the direction around, or has no width. */
export function isHidden(character) {
  return character !== "\n" && character !== "\t" && HIDDEN.test(character);
}

/** Text in which characters that cannot be seen stand as their numbers, for one short place. */
export function visible(text) {
  return [...text].map((c) => (isHidden(c) ? `[${code(c)}]` : c)).join("");
}

function code(character) {
  return "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
}

/**
 * Fills an element with text; marks are {start, end, name} in characters and may overlap.
 * Every piece remembers where it begins, so that places can be found again.
 */
export function fill(element, text, marks = []) {
  const characters = [...text];
  const cuts = new Set([0, characters.length]);
  for (const { start, end } of marks) cuts.add(start).add(end);
  characters.forEach((c, at) => { if (isHidden(c)) cuts.add(at).add(at + 1); });
  const places = [...cuts].filter((at) => at >= 0 && at <= characters.length).sort((a, b) => a - b);
  const pieces = places.slice(0, -1).map((start, number) => {
    const part = characters.slice(start, places[number + 1]);
    const names = marks.filter((m) => m.start <= start && start < m.end).map((m) => m.name);
    return piece(part, start, names);
  });
  element.replaceChildren(...pieces);
}

function piece(part, start, names) {
  const hidden = part.length === 1 && isHidden(part[0]);
  const element = make(names.length ? "mark" : "span", hidden ? code(part[0]) : part.join(""));
  element.dataset.at = start;
  element.dataset.length = part.length;
  element.classList.add(...names);
  if (hidden) element.classList.add("code");
  return element;
}

/** The place of a point of a range inside an element that `fill` filled; null outside of it. */
export function placeOf(element, node, offset) {
  if (!element.contains(node)) return null;
  if (node === element) {
    const child = element.children[offset];
    return child ? Number(child.dataset.at) : lengthOf(element);
  }
  const inside = (node.nodeType === Node.TEXT_NODE ? node.parentElement : node).closest("[data-at]");
  const at = Number(inside.dataset.at);
  if (node === inside || inside.classList.contains("code")) {
    return at + (offset > 0 ? Number(inside.dataset.length) : 0);
  }
  return at + [...node.data.slice(0, offset)].length;
}

function lengthOf(element) {
  const last = element.lastElementChild;
  return last ? Number(last.dataset.at) + Number(last.dataset.length) : 0;
}

/** [start, end) of every word, in characters. */
export function words(text) {
  const found = [];
  let start = null;
  [...text, " "].forEach((character, at) => {
    const inside = !/\s/u.test(character);
    if (inside && start === null) start = at;
    if (!inside && start !== null) { found.push({ start, end: at }); start = null; }
  });
  return found;
}

/** A part of a text by characters. */
export function slice(text, span) {
  return [...text].slice(span.start, span.end).join("");
}

/** Where the evidence stands: as the service says if that is right, else where its words are. */
export function spanOf(text, evidence) {
  if (!evidence || !evidence.text) return null;
  const { start, end } = evidence;
  if (start !== null && start !== undefined && slice(text, { start, end }) === evidence.text) {
    return { start, end };
  }
  const unit = text.indexOf(evidence.text);
  if (unit < 0) return null;
  const first = [...text.slice(0, unit)].length;
  return { start: first, end: first + [...evidence.text].length };
}

const LONGEST = 400; // words; beyond that texts are not compared

/** Spans of the words of `text` that are not in `other` in the same order (longest common part). */
export function differing(text, other) {
  const [ours, theirs] = [words(text), words(other)];
  if (Math.max(ours.length, theirs.length) > LONGEST) return [];
  const a = ours.map((span) => slice(text, span));
  const b = theirs.map((span) => slice(other, span));
  const best = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      best[i][j] = a[i] === b[j] ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
    }
  }
  const found = [];
  for (let i = 0, j = 0; i < a.length; ) {
    if (j < b.length && a[i] === b[j]) { i++; j++; }
    else if (j < b.length && best[i][j + 1] >= best[i + 1][j]) j++;
    else found.push(ours[i++]);
  }
  return found;
}
