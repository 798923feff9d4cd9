// The form in which an operator mends a verdict: label, flaw type, span, critique. What is typed is
// kept at once, so that nothing is lost with the page. The span is marked with the mouse, or word by
// word with the keys.

import { keep, kept } from "./kept.js";
import { placeOf, slice, spanOf, visible, words } from "./text.js";
import { showRationale } from "./view.js";

const at = (id) => document.getElementById(id);

/** The form before anything is typed: what the critic said. */
const asSaid = ({ rationale, result }) => ({
  label: result.label, type: result.flaw_type || "", span: spanOf(rationale, result.evidence),
  critique: result.critique || "", note: "",
});

export class Correction {
  /** `say` speaks to who cannot see; `types` is filled by the taxonomy. */
  constructor(say) {
    Object.assign(this, { say, types: [], case: null, span: null, marking: null, dirty: false });
    for (const id of ["critique-text", "note"]) at(id).addEventListener("input", () => this.#keep());
    at("type").addEventListener("change", () => this.#changed());
    for (const radio of document.getElementsByName("label")) {
      radio.addEventListener("change", () => this.#changed());
    }
    at("unmark").addEventListener("click", () => this.#take(null));
    at("mark").addEventListener("click", () => this.mark());
    document.addEventListener("selectionchange", () => this.#selected());
    at("rationale").addEventListener("keydown", (event) => this.#key(event));
    at("rationale").addEventListener("blur", () => this.#leave());
  }

  get isOpen() {
    return !at("correction").hidden;
  }

  /** Opens the form on a case, with what was typed before if that was about it. */
  open(one) {
    if (this.isOpen) return;
    this.case = one;
    const before = kept("correction");
    const form = before && before.id === one.id ? before : asSaid(one);
    for (const radio of document.getElementsByName("label")) radio.checked = radio.value === form.label;
    at("type").value = form.type;
    at("critique-text").value = form.critique;
    at("note").value = form.note;
    this.span = form.span;
    at("correction").hidden = false;
    at("acts").hidden = true;
    at("correction-error").hidden = true;
    const chosen = this.#selection();
    if (chosen) this.span = chosen;
    this.#show();
    document.querySelector('input[name="label"]:checked').focus();
  }

  close() {
    at("correction").hidden = true;
    at("acts").hidden = false;
    this.marking = this.span = null;
    at("marking").hidden = true;
    if (this.case) showRationale(at("rationale"), this.case, null, null);
    this.case = null;
  }

  /** What was typed, if it is open. */
  get form() {
    return this.isOpen ? this.#form() : null;
  }

  forget() {
    keep("correction", null);
  }

  /** Brings back what was typed about a case that is opened again. */
  recall(form) {
    keep("correction", form);
  }

  /** Takes what was typed along to another answer about the same text; the rest is as that says. */
  carry(other) {
    const typed = this.form;
    if (!typed) return;
    const [before, after] = [asSaid(this.case), asSaid(other)];
    for (const name of Object.keys(after)) {
      if (JSON.stringify(typed[name]) !== JSON.stringify(before[name])) after[name] = typed[name];
    }
    keep("correction", { ...after, id: other.id });
  }

  /** The fields of the decision; throws an Error that says what is missing. */
  get fields() {
    const said = asSaid(this.case);
    const form = this.#form();
    const critique = form.critique.trim();
    const flawed = form.label === "flawed";
    // To send nothing would leave what the critic said.
    if (flawed && said.type && !form.type) throw new Error("Choose the right type: none is chosen.");
    if (flawed && said.span && !form.span) throw new Error("Mark the right place: none is marked.");
    const changed = {
      label: form.label !== said.label,
      type: flawed && form.type !== said.type,
      span: flawed && JSON.stringify(form.span) !== JSON.stringify(said.span),
      critique: critique !== "" && critique !== said.critique,
    };
    if (!Object.values(changed).includes(true)) {
      throw new Error("Nothing is corrected yet: change something, or agree.");
    }
    const fields = { label: form.label };
    if (flawed && form.type) fields.flaw_type = form.type;
    if (flawed && form.span) fields.evidence = form.span;
    if (changed.critique) fields.critique = critique;
    if (form.note.trim()) fields.note = form.note.trim();
    return fields;
  }

  refuse(words) {
    at("correction-error").textContent = words;
    at("correction-error").hidden = false;
  }

  /** Goes into the text, to mark a span with the keys. */
  mark() {
    const all = words(this.case.rationale);
    if (!all.length) return;
    const from = this.span ? Math.max(0, all.findIndex((word) => word.end > this.span.start)) : 0;
    const until = this.span ? all.findLastIndex((word) => word.start < this.span.end) : 0;
    this.marking = { all, anchor: from, head: Math.max(from, until) };
    at("marking").textContent = "Arrows go from word to word, with Shift they make the span longer. "
      + "Enter takes it, Esc leaves.";
    at("marking").hidden = false;
    at("rationale").focus();
    this.#show();
  }

  #key(event) {
    if (!this.marking) return;
    const { all } = this.marking;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -8, ArrowDown: 8, Home: -all.length, End: all.length };
    if (event.key in steps) {
      const head = Math.min(all.length - 1, Math.max(0, this.marking.head + steps[event.key]));
      this.marking.head = head;
      if (!event.shiftKey) this.marking.anchor = head;
      this.#show();
      this.say(visible(slice(this.case.rationale, this.#marked())));
    } else if (event.key === "Enter") {
      this.#take(this.#marked());
      at("mark").focus();
    } else if (event.key === "Escape") {
      at("mark").focus();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #marked() {
    const { all, anchor, head } = this.marking;
    return { start: all[Math.min(anchor, head)].start, end: all[Math.max(anchor, head)].end };
  }

  #leave() {
    if (!this.marking) return;
    this.marking = null;
    at("marking").hidden = true;
    this.#show();
  }

  #take(span) {
    this.span = span;
    if (span) document.querySelector('input[name="label"][value="flawed"]').checked = true;
    this.#keep();
    this.#show();
  }

  /** The part of the rationale that is selected with the mouse or a finger, without blank ends. */
  #selection() {
    const found = getSelection();
    if (!found.rangeCount || found.isCollapsed || !this.case) return null;
    const range = found.getRangeAt(0);
    const text = at("rationale");
    let start = placeOf(text, range.startContainer, range.startOffset);
    let end = placeOf(text, range.endContainer, range.endOffset);
    if (start === null || end === null) return null;
    const characters = [...this.case.rationale];
    while (start < end && /\s/u.test(characters[start])) start += 1;
    while (end > start && /\s/u.test(characters[end - 1])) end -= 1;
    return start < end ? { start, end } : null;
  }

  /** The text is drawn anew only when nothing is selected any more: that would end the selection. */
  #selected() {
    if (!this.isOpen) return;
    const span = this.#selection();
    if (span) {
      this.span = span;
      this.dirty = true;
      document.querySelector('input[name="label"][value="flawed"]').checked = true;
      this.#keep();
      this.#tell();
    } else if (this.dirty) {
      this.dirty = false;
      this.#show();
    }
  }

  #changed() {
    this.#keep();
    this.#tell();
  }

  #form() {
    const checked = document.querySelector('input[name="label"]:checked');
    return {
      id: this.case.id, label: checked ? checked.value : "", type: at("type").value, span: this.span,
      critique: at("critique-text").value, note: at("note").value,
    };
  }

  #keep() {
    keep("correction", this.#form());
  }

  #show() {
    if (!this.case) return;
    showRationale(at("rationale"), this.case, this.span, this.marking && this.#marked());
    const seen = at("rationale").querySelector(".marking");
    if (seen) seen.scrollIntoView({ block: "nearest" });
    this.#tell();
  }

  #tell() {
    const { label, type } = this.#form();
    const kind = this.types.find((one) => one.name === type);
    at("flaw-fields").hidden = label !== "flawed";
    at("type-about").textContent = kind ? `${kind.description} ${kind.example}` : "";
    at("span").textContent = this.span ? visible(slice(this.case.rationale, this.span)) : "nothing marked";
    at("unmark").hidden = !this.span;
  }
}
