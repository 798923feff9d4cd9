// The operator console: opens cases, takes decisions, listens to keys. See docs/console.md.

import { Correction } from "./correction.js";
import { keep, kept } from "./kept.js";
import { Outbox } from "./outbox.js";
import { ask, key } from "./service.js";
import { make } from "./text.js";
import * as view from "./view.js";

const at = (id) => document.getElementById(id);
const NAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/; // as the service wants it
const LOOK_AGAIN = 15_000; // ms
const MOST = 20; // cases of the queue

let cases = []; // undecided, as the service orders them
let current = null; // {id, rationale, domain, result}
let types = [];
let busy = false; // a judgement is awaited
const decided = new Set();
const skipped = [];

const say = (words) => { at("voice").textContent = words; };
const correction = new Correction(say);
const outbox = new Outbox(changed, sent);

function changed(error) {
  view.showOutbox(at("sending"), [...outbox.entries.values()], { undo, open: reopen, discard });
  if (error) lost(error);
}

function sent(entry) {
  for (const body of entry.bodies) decided.add(body.request_id);
  online();
  refresh();
}

/** Said only when it changes: the chip is spoken to who cannot see it. */
function tell(words, kind) {
  if (at("line").textContent === words) return;
  at("line").textContent = words;
  at("line").className = `chip ${kind}`;
}

const online = () => tell("connected", "good");

function lost(error) {
  if (error.status === 401) at("login").hidden = false;
  if (error.status !== 0) return;
  tell("no connection: decisions are kept here", "open");
}

/** Asks the service; whether it could be reached is shown. */
async function call(method, path, body) {
  try {
    const answer = await ask(method, path, body);
    online();
    return answer;
  } catch (error) {
    lost(error);
    throw error;
  }
}

async function refresh() {
  const [queue, state] = await Promise.allSettled([
    call("GET", `/v1/queue?limit=${MOST}`), call("GET", "/v1/state")]);
  if (state.status === "fulfilled") view.showState(at("state"), state.value);
  note(queue.status === "rejected" ? `The queue could not be read: ${queue.reason.words}.` : "");
  if (queue.status !== "fulfilled") return;
  cases = queue.value.items.map((row) => caseOf(row.rationale, row)).filter((one) => !isDone(one.id));
  arrange();
  if (!current && cases.length) open(cases[0], { quiet: true });
  drawQueue();
}

function note(words) {
  at("queue-note").textContent = words;
  at("queue-note").hidden = !words;
}

const caseOf = (rationale, result) =>
  ({ id: result.request_id, rationale, domain: result.domain, result });
const isDone = (id) => decided.has(id) || outbox.holds(id);

/** What was skipped goes to the end. */
function arrange() {
  const rank = (one) => skipped.indexOf(one.id);
  cases.sort((a, b) => rank(a) - rank(b)); // -1 for the others; the sort is stable
}

function drawQueue() {
  at("queue-count").textContent = cases.length ? `(${cases.length}${cases.length < MOST ? "" : "+"})` : "";
  view.showQueue(at("queue"), cases, current, (one) => open(one));
  if (!cases.length && at("queue-note").hidden) note("Nothing waits for a decision.");
}

function open(one, { quiet = false } = {}) {
  correction.close();
  current = one;
  keep("case", one);
  at("empty").hidden = Boolean(one);
  at("shown").hidden = !one;
  if (one) show(one, quiet);
  else at("case").focus(); // not in a field that is no longer there, where keys would be text
  drawQueue();
}

function show(one, quiet) {
  at("facts").textContent = view.factsOf(one);
  view.showRationale(at("rationale"), one, null, null);
  view.showVerdict(at("said"), at("scale"), at("certificate"), one.result);
  view.showReasons(at("reasons"), one.result, types);
  at("write").hidden = Boolean(one.result.critique || one.result.text);
  at("write-error").hidden = true;
  if (!quiet) {
    at("case-title").focus({ preventScroll: true });
    if (at("case").getBoundingClientRect().left < 100) at("case").scrollIntoView(); // one column
    else scrollTo(0, 0);
  }
  const before = kept("correction");
  if (before && before.id === one.id) correction.open(one);
  precedents(one);
}

async function precedents(one) {
  const remark = at("precedents-note");
  at("precedents").replaceChildren();
  remark.textContent = "looking";
  try {
    const body = { domain: one.domain, rationale: one.rationale, k: 5 };
    const answer = await call("POST", "/v1/precedents", body);
    if (one !== current) return;
    view.showPrecedents(at("precedents"), answer.precedents, one.rationale);
    remark.textContent = answer.precedents.length ? "" : answer.reason || "There are none yet.";
  } catch (error) {
    if (one === current) remark.textContent = `None to show: ${error.words}.`;
  }
}

async function judge() {
  const typed = at("text").value;
  const rationale = typed.normalize("NFC").trimEnd();
  if (busy) return;
  if (!rationale.trim()) return complain("compose-error", "Paste a rationale first.");
  await waiting(at("judge"), "compose-error", async () => {
    const path = at("explain").checked ? "/v1/critique" : "/v1/verdict";
    const answer = await call("POST", path, { domain: at("domain").value, rationale });
    const goesOn = at("text").value !== typed; // with another text, which stays where it is typed
    if (!goesOn) at("text").value = "";
    saveDraft();
    open(caseOf(rationale, answer.results[0]), { quiet: goesOn });
    refresh();
  });
}

/** Has the critique of the case written: a request of its own, in whose place the verdict's goes. */
async function write() {
  const one = current;
  if (!one || busy || at("write").hidden) return;
  await waiting(at("write"), "write-error", async () => {
    const body = { domain: one.domain, rationale: one.rationale };
    const [result] = (await call("POST", "/v1/critique", body)).results;
    const whole = caseOf(one.rationale, result);
    cases = cases.map((other) => (other.id === one.id ? whole : other));
    if (current !== one) return;
    const field = document.activeElement;
    correction.carry(whole);
    open(whole);
    if (correction.isOpen && at("correction").contains(field)) field.focus();
  });
}

/** Runs what takes a while with a button that says so; what goes wrong is shown below it. */
async function waiting(button, fault, work) {
  busy = true;
  at(fault).hidden = true;
  button.setAttribute("aria-busy", "true");
  say("The critic reads.");
  try {
    await work();
  } catch (error) {
    complain(fault, `${error.words || error}. What you wrote stays here.`);
  } finally {
    busy = false;
    button.removeAttribute("aria-busy");
  }
}

function complain(id, words) {
  at(id).textContent = words;
  at(id).hidden = false;
}

function operator() {
  const name = at("operator").value.trim();
  if (NAME.test(name)) return name;
  at("operator").setAttribute("aria-invalid", "true");
  at("operator-hint").classList.remove("hidden");
  at("operator").focus();
  say("Say who you are first.");
  return null;
}

function decide(decision, fields = {}) {
  const name = current && operator();
  if (!name) return;
  const { id, result } = current;
  const bodies = [{ request_id: id, decision, operator: name, ...fields }];
  const other = result.label === "flawed" ? "valid" : "flawed";
  const words = { agree: `Agreed: ${result.label}.`, disagree: `Disagreed: ${other}.`,
    correct: "Corrected." }[decision];
  const done = current;
  outbox.add(bodies, words, { ...done, form: decision === "correct" ? correction.form : null });
  correction.forget();
  const place = cases.findIndex((one) => one.id === done.id);
  cases = cases.filter((one) => one.id !== done.id);
  open(cases[Math.max(0, Math.min(place, cases.length - 1))] || null);
  say(`${words} U undoes. ${current ? `Next: ${current.result.label}.` : "Nothing else waits."}`);
  if (cases.length < 3) setTimeout(refresh, 300);
}

function comeBack(entry, words) {
  if (!entry) return;
  const { form, ...one } = entry.about;
  cases = [one, ...cases.filter((other) => other.id !== one.id)];
  if (form) correction.recall(form);
  open(one);
  say(words);
}

function undo(which = null) {
  const entry = outbox.undo(which);
  if (!entry) say("Nothing can be undone any more.");
  comeBack(entry, "Taken back.");
}

const reopen = (which) => comeBack(outbox.discard(which), "Open again.");
const discard = (which) => { outbox.discard(which); };

function move(step) {
  if (!cases.length) return;
  const place = cases.findIndex((one) => current && one.id === current.id);
  open(cases[(Math.max(place, step > 0 ? -1 : 0) + step + cases.length) % cases.length]);
}

function skip() {
  if (!current) return;
  const { id } = current;
  const place = cases.findIndex((one) => one.id === id);
  skipped.push(id);
  arrange();
  open(cases[Math.max(0, place)] || null);
}

function correct(then) {
  if (!current) return;
  correction.open(current);
  if (then === "mark") {
    correction.mark();
  } else if (then) {
    const flawed = document.querySelector('input[name="label"][value="flawed"]');
    if (then === "type" && !flawed.checked) flawed.click();
    at(then).focus();
  }
}

function send(event) {
  event.preventDefault();
  try {
    decide("correct", correction.fields);
  } catch (error) {
    correction.refuse(error.message);
  }
}

const KEYS = {
  n: () => at("text").focus(), j: () => move(1), k: () => move(-1), a: () => decide("agree"),
  d: () => decide("disagree"), c: () => correct(), t: () => correct("type"), m: () => correct("mark"),
  r: () => correct("critique-text"), w: write, s: skip, u: () => undo(), o: () => at("operator").focus(),
  "?": () => at("help").showModal(),
};

const AWAY = new Set("njkadwsu"); // they would leave a correction that is open

function pressed(event) {
  if (event.defaultPrevented || event.isComposing || at("help").open) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    if (event.target.closest("#compose")) { event.preventDefault(); judge(); }
    else if (correction.isOpen) send(event);
    return;
  }
  if (event.key === "Escape") return leave(event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !at("keys-on").checked) return;
  if (event.target.closest("input:not([type=radio]):not([type=checkbox]), textarea, select")) return;
  const name = event.key.toLowerCase();
  const act = KEYS[name];
  if (!act) return;
  event.preventDefault();
  if (correction.isOpen && AWAY.has(name)) say("A correction is open: Ctrl Enter sends it, Esc leaves it.");
  else act();
}

function leave(target) {
  if (target.closest("#correction input, #correction textarea, #correction select")) {
    at("correction").querySelector("[type=submit]").focus();
  } else if (correction.isOpen) {
    cancel();
  } else {
    at("case-title").focus();
  }
}

function cancel() {
  correction.forget();
  correction.close();
  at("case-title").focus();
}

const saveDraft = () => keep("draft", {
  rationale: at("text").value, domain: at("domain").value, explain: at("explain").checked });

async function learnWords() {
  const found = await call("GET", "/v1/taxonomy");
  types = correction.types = found.flaw_types;
  at("domain").replaceChildren(...found.domains.map((name) => make("option", name, { value: name })));
  at("type").replaceChildren(make("option", "which flaw", { value: "" }),
    ...types.map(({ name }) => make("option", name.replaceAll("_", " "), { value: name })));
  at("domain").value = kept("draft", { domain: "general" }).domain;
  const typed = kept("correction");
  if (correction.isOpen && typed) at("type").value = typed.type;
}

function restore() {
  const draft = kept("draft", { rationale: "", domain: "general", explain: true });
  at("text").value = draft.rationale;
  at("explain").checked = draft.explain;
  at("operator").value = kept("operator", "");
  at("keys-on").checked = kept("keys", true);
  at("hold").value = kept("hold", 6);
  outbox.resume();
  changed();
}

function listen() {
  document.addEventListener("keydown", pressed);
  at("compose").addEventListener("submit", (event) => { event.preventDefault(); judge(); });
  for (const id of ["text", "domain", "explain"]) at(id).addEventListener("input", saveDraft);
  at("correction").addEventListener("submit", send);
  at("login-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key.set(at("key").value.trim());
    at("key").value = "";
    at("login").hidden = true;
    begin();
  });
  at("operator").addEventListener("input", () => {
    at("operator").removeAttribute("aria-invalid");
    at("operator-hint").classList.add("hidden");
    keep("operator", at("operator").value.trim());
  });
  at("operator").addEventListener("keydown", (event) => {
    if (event.key === "Enter") at("case-title").focus();
  });
  at("keys-on").addEventListener("input", () => keep("keys", at("keys-on").checked));
  at("hold").addEventListener("input", () => keep("hold", Number(at("hold").value)));
  const clicks = {
    agree: () => decide("agree"), disagree: () => decide("disagree"), correct: () => correct(), skip, write,
    cancel, reload: refresh, "help-open": () => at("help").showModal(),
  };
  for (const [id, act] of Object.entries(clicks)) at(id).addEventListener("click", act);
  addEventListener("online", () => { outbox.hurry(); begin(); });
}

/** Everything that the service has to say; again after a lost connection or a new key. */
async function begin() {
  try {
    const news = !types.length;
    if (news) await learnWords();
    const before = kept("case");
    if (!current && before && !isDone(before.id)) open(before, { quiet: true });
    if (current && news) view.showReasons(at("reasons"), current.result, types);
    await refresh();
    outbox.hurry();
  } catch (error) {
    note(`The service could not be asked: ${error.words}.`);
  }
}

listen();
restore();
begin();
setInterval(() => { if (!document.hidden) begin(); }, LOOK_AGAIN);
