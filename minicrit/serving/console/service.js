// The service, asked over HTTP. A Refusal says what the service said; `again` whether the same
// request may be sent once more: the connection broke, the service was busy, or it wants a key.

const PATIENCE = 120_000; // ms; a critique on a busy machine takes a while

export class Refusal extends Error {
  constructor(status, code, message, remedy, after) {
    super(message);
    Object.assign(this, { status, code, remedy, after });
    this.again = status === 0 || status === 401 || status === 408 || status === 429 || status >= 500;
  }

  /** For a person: what is wrong and what helps. */
  get words() {
    return this.remedy ? `${this.message}; ${this.remedy}` : this.message;
  }
}

/** The API key of this tab; services on this machine ask for none. */
export const key = {
  get: () => sessionStorage.getItem("minicrit.key"),
  set: (value) => sessionStorage.setItem("minicrit.key", value),
};

export async function ask(method, path, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE), cache: "no-store",
    });
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Refusal(0, "offline", late ? "the service did not answer in time"
      : "the service cannot be reached", "it is tried again");
  }
  let content = null;
  try {
    content = await answer.json();
  } catch {
    if (answer.ok) throw new Refusal(0, "offline", "the answer broke off", "it is tried again");
  }
  if (answer.ok) return content;
  const said = (content && content.error) || {};
  const after = Number(answer.headers.get("Retry-After")) || null;
  throw new Refusal(answer.status, said.code || "unknown",
    said.message || `the service answered ${answer.status}`, said.remedy || "", after);
}
