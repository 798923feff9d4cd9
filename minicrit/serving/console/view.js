// What is seen: elements made of data. Nothing here asks the service or changes anything else.

import { differing, fill, make, spanOf, visible } from "./text.js";

/** With tenths near none and near all, where they decide: 97.6 % are under a target of 98. */
export const percent = (value) =>
  `${Number((100 * value).toFixed(value < 0.1 || value > 0.9 ? 1 : 0))} %`;
/** A share as it was set: 98.75 % of confidence are not 99. */
const exact = (share) => `${Number((100 * share).toPrecision(6))} %`;
const number = (value) => value.toFixed(3).replace(/0$/, "");
/** p and threshold, with the decimals that tell them apart: nothing is above itself. */
function apart(p, threshold) {
  let told = [number(p), number(threshold)];
  for (let digits = 4; digits <= 6 && told[0] === told[1] && p !== threshold; digits += 1) {
    told = [p, threshold].map((value) => value.toFixed(digits));
  }
  return told;
}
const count = (n) => n.toLocaleString("en-US");
const spaced = (name) => name.replaceAll("_", " ");

/** A chip; kinds are those of the report page: good, bad, open, unknown. */
export function chip(words, kind) {
  return make("span", visible(words), { class: `chip ${kind}` });
}

export const labelChip = (label) => chip(label, label === "flawed" ? "bad" : "good");

/** "85 % [77, 90.6], n = 100" of {value, low, high, n}; a dash where there is nothing yet. */
export function rate(found) {
  if (!found || !found.n || found.value === null) return "\u2013";
  const ends = [found.low, found.high].map((end) => percent(end).replace(" %", ""));
  return `${percent(found.value)} [${ends.join(", ")}], n = ${found.n}`;
}

export function showState(list, state) {
  const cells = [
    ["Agreement", rate(state.agreement.audit),
      "of this critic with operators, in a random sample of all that were asked; 95 % interval"],
    ["False positives", rate(state.fpr),
      "of this critic: flagged among rationales that operators call valid, in the same random sample"],
    ["Decided", `${state.decisions} of ${state.requests}`, "decisions, and requests so far"],
    ...(state.trial || []).map(trial),
  ];
  if (state.shadow) cells.push(["Shadow", `${rate(state.shadow.flips)} flips`, "answers that differ"]);
  list.replaceChildren(...cells.map(([name, value, about]) =>
    make("div", null, { title: about }, make("dt", name), make("dd", value))));
}

/** A gain: of outcomes in the units in which they are reported, of all else in percent. */
const signed = (value, metric) => (value > 0 ? "+" : "")
  + (metric === "outcome" ? Number(value.toPrecision(4)) : Number((100 * value).toFixed(1)));

/** An A/B experiment by the metric that it is about; the interval holds however often one looks. */
function trial(one) {
  if (one.error) return [`A/B ${visible(one.name)}`, "left: its log cannot be used", visible(one.error)];
  const found = one.metrics[one.primary];
  const [unit, counted] = one.primary === "outcome" ? ["", "outcomes"] : [" %", "decisions"];
  const told = (value) => signed(value, one.primary);
  const gain = found.n ? `${told(found.gain)}${unit} [${told(found.low)}, ${told(found.high)}], n = ${found.n}`
    : `no ${counted} yet`;
  const stand = one.ended ? `stopped: ${one.ended.reason}` : one.shadow ? "shadow" : "running";
  return [`A/B ${visible(one.name)}, ${one.primary}`, `${gain} \u00b7 ${visible(stand)}`,
    `gain of ${visible(one.treatment)} over ${visible(one.control)}, with an interval that holds at every look`];
}

/** Fills a list anew; the button that had the focus has it again, else its neighbour. */
function redraw(list, items) {
  const before = [...list.querySelectorAll("button")];
  const place = before.indexOf(document.activeElement);
  const name = place < 0 ? null : before[place].dataset.of;
  list.replaceChildren(...items);
  if (place < 0) return;
  const after = [...list.querySelectorAll("button")];
  const same = after.find((button) => button.dataset.of === name) || after[Math.min(place, after.length - 1)];
  if (same) same.focus({ preventScroll: true });
}

/** The queue; `open` is called with the case that was chosen. */
export function showQueue(list, cases, current, open) {
  redraw(list, cases.map((one) => {
    const button = make("button", null, { type: "button", class: "case", "data-of": one.id },
      make("span", null, { class: "top" }, labelChip(one.result.label),
        make("span", `p ${number(one.result.p_flawed)}`, { class: "soft" }),
        make("span", visible(one.domain), { class: "soft" })),
      make("span", visible(one.rationale.slice(0, 240)), { class: "start", dir: "auto" }));
    if (current && one.id === current.id) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => open(one));
    return make("li", null, {}, button);
  }));
}

export function showVerdict(said, scale, certificate, result) {
  const flawed = result.label === "flawed";
  const [p, threshold] = apart(result.p_flawed, result.threshold);
  const chips = [];
  if (result.flaw_type) chips.push(chip(spaced(result.flaw_type), "bad"));
  if (result.severity) chips.push(chip(`${result.severity} severity`, "open"));
  if (result.unsure) chips.push(chip("unsure: somebody should look", "open"));
  said.replaceChildren(
    make("strong", flawed ? "Flawed" : "Valid", { class: `value ${flawed ? "bad" : "good"}` }),
    make("span", `p(flawed) ${p}, ${flawed ? "above" : "not above"} the threshold ${threshold}`),
    ...chips);
  scale.replaceChildren(drawScale(result));
  certificate.textContent = promise(result);
}

function drawScale({ p_flawed: p, threshold, certificate }) {
  const at = (element, place) => { element.style.setProperty("--at", place); return element; };
  const band = certificate && certificate.abstain;
  const told = apart(p, threshold);
  const bar = make("div", null, { class: "bar" });
  bar.style.setProperty("--cut", threshold);
  if (band) {
    const unsure = at(make("i", null, { class: "band" }), band.low);
    unsure.style.setProperty("--wide", band.high - band.low);
    bar.append(unsure);
  }
  bar.append(at(make("i", null, { class: "cut" }), threshold), at(make("i", null, { class: "dot" }), p));
  return make("div", null, { class: "scale", "aria-hidden": "true" },
    at(make("b", told[0], { class: "over" }), p), bar,
    make("div", null, { class: "under" }, make("span", "valid"),
      at(make("span", `threshold ${told[1]}`, { class: "cut-name" }), threshold),
      make("span", "flawed")));
}

/** What the threshold promises, in words. */
export function promise(result) {
  const found = result.certificate;
  if (!found && result.calibrated) { // a router's general adapter, of what no specialist takes
    return "The threshold carries no certificate for texts like this one; p(flawed) is calibrated.";
  }
  if (!found) {
    return "This critic is not calibrated: the threshold carries no certificate, and p(flawed) is "
      + "as the model says it.";
  }
  // Of one it says nothing of others; one without valid items is listed, and certifies nothing.
  const domains = Object.keys(found.domains || {}).filter((name) => found.domains[name].n);
  const where = found.each_domain ? "in each domain"
    : domains.length === 1 ? `in the domain ${visible(domains[0])}` : "over all domains";
  const wide = found.abstain && found.abstain.low < found.abstain.high; // of no width: none is needed
  const band = wide ? ` Between ${number(found.abstain.low)} and `
    + `${number(found.abstain.high)} verdicts cannot be relied on.` : "";
  // That of a threshold over all domains: the one for each is another, with a k by domain.
  const flags = found.each_domain ? "" : `, of which it flags ${count(found.k)}`;
  return `Certified: of sound rationales at most ${exact(found.alpha)} are flagged ${where}, with `
    + `confidence ${exact(1 - found.delta)}, for texts like the ${count(found.n)} sound ones of the `
    + `calibration${flags}.${band}`;
}

/** Why: type with its description, evidence, critique, fix; and where the answer comes from. */
export function showReasons(list, result, types) {
  const kind = types.find((one) => one.name === result.flaw_type);
  const rows = [];
  if (result.flaw_type) {
    rows.push(["Flaw", spaced(result.flaw_type) + (kind ? `: ${kind.description}` : "")]);
  }
  if (result.evidence && result.evidence.text) rows.push(["Evidence", `\u201c${result.evidence.text}\u201d`]);
  if (result.critique) rows.push(["Critique", result.critique]);
  else if (result.text) rows.push(["As written", result.text]);
  if (result.fix) rows.push(["Fix", result.fix]);
  if (!result.critique && !result.text) rows.push(["Critique", "not written: this is a verdict alone"]);
  list.replaceChildren(...rows.flatMap(([name, text]) => {
    const shown = make("dd", null, { class: "text", dir: "auto" });
    fill(shown, text);
    return [make("dt", name), shown];
  }));
}

export function factsOf({ domain, result }) {
  const spent = result.latency_ms;
  const time = result.cached ? "answered before"
    : spent < 1000 ? `${Math.round(spent)} ms` : `${(spent / 1000).toFixed(1)} s`;
  const arm = result.arm ? ` \u00b7 arm ${visible(result.arm)}` : "";
  return `${visible(domain)} \u00b7 ${visible(result.model)} \u00b7 ${time}${arm} \u00b7 ${result.request_id.slice(0, 8)}`;
}

/** The rationale with the critic's evidence, the operator's span, and what is being marked. */
export function showRationale(element, { rationale, result }, given, marking) {
  const said = spanOf(rationale, result.evidence);
  fill(element, rationale, [
    ...(said ? [{ ...said, name: "said" }] : []),
    ...(given ? [{ ...given, name: "given" }] : []),
    ...(marking ? [{ ...marking, name: "marking" }] : []),
  ]);
}

const NEAR = 0.7; // below that two texts differ in most words, and underlining says nothing

export function showPrecedents(list, found, rationale) {
  list.replaceChildren(...found.map((one) => {
    const text = make("p", null, { class: "text", dir: "auto" });
    const spans = one.similarity >= NEAR ? differing(one.rationale, rationale) : [];
    fill(text, one.rationale, spans.map((span) => ({ ...span, name: "differs" })));
    const decision = one.decision ? chip(`operator: ${one.decision}`, "open")
      : make("span", "nobody decided", { class: "soft" });
    return make("li", null, {}, make("div", null, { class: "top" },
      make("strong", one.similarity.toFixed(3), { title: "similarity: cosine of the embeddings" }),
      labelChip(one.label), make("span", `p ${number(one.p_flawed)}`, { class: "soft" }), decision,
      make("span", visible(one.domain), { class: "soft" })), text);
  }));
}

const STATES = {
  held: "can be undone", sending: "is being sent", waiting: "will be sent again", refused: "was refused",
};

/** Decisions on their way; acts: {undo, open, discard}, each called with a key. */
export function showOutbox(list, entries, acts) {
  redraw(list, entries.map((entry) => {
    const buttons = [];
    const button = (words, act) => {
      const made = make("button", words, { type: "button", class: "quiet", "data-of": words + entry.key });
      made.addEventListener("click", () => act(entry.key));
      buttons.push(made);
    };
    if (entry.state === "held" && entry.done === 0) button("Undo (U)", acts.undo);
    if (entry.state === "refused") { button("Open again", acts.open); button("Discard", acts.discard); }
    const error = entry.state === "waiting" || entry.state === "refused" ? `: ${visible(entry.error)}` : "";
    const start = visible(entry.about.rationale.slice(0, 40));
    return make("li", null, { class: entry.state },
      make("span", `${entry.words} \u201c${start}\u2026\u201d ${STATES[entry.state]}${error}`), ...buttons);
  }));
}
