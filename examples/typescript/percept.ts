// A client for both services in one file: uses fetch, and types generated from the OpenAPI description (`npm run types`).

import type { paths } from "./percept-api.js";

type Answer<Path extends keyof paths> = paths[Path] extends {
  post: { responses: { 200: { content: { "application/json": infer Body } } } };
}
  ? Body
  : never;

export type Tagged = Answer<"/v1/tag">;
export type Intents = Answer<"/v1/intent">;
export type Answered = Answer<"/v1/answer">;
export type Understood = Answer<"/v1/understand">;

/** The service refused: its message, and the request's id in its log. */
export class PerceptError extends Error {
  constructor(
    message: string,
    readonly type: string,
    readonly status: number,
    readonly requestId: string | null,
  ) {
    super(message);
  }
}

const AGAIN = new Set([429, 503]);
const ATTEMPTS = 4;

export class Percept {
  constructor(
    private readonly url: string,
    private readonly apiKey?: string,
  ) {}

  /** Tags for one or several photos. If one of several is bad, its error takes its place. */
  tag(...photos: Blob[]): Promise<Tagged> {
    const form = new FormData();
    for (const photo of photos) form.append("image", photo, "photo");
    return this.post("/v1/tag", form);
  }

  /** The intents of one or several texts. */
  intents(...texts: string[]): Promise<Intents> {
    return this.post("/v1/intent", JSON.stringify({ texts }));
  }

  /** The answer from a context, or from the knowledge base if you give none. */
  answer(question: string, context?: string): Promise<Answered> {
    return this.post("/v1/answer", JSON.stringify({ question, context }));
  }

  /** One call for a chatbot: the intent, and the answer if it is a question. */
  understand(text: string): Promise<Understood> {
    return this.post("/v1/understand", JSON.stringify({ text }));
  }

  private async post<Body>(path: string, body: FormData | string): Promise<Body> {
    const headers: Record<string, string> = {};
    if (typeof body === "string") headers["content-type"] = "application/json";
    if (this.apiKey !== undefined) headers["x-api-key"] = this.apiKey;
    for (let attempt = 1; ; attempt++) {
      const response = await fetch(this.url + path, { method: "POST", headers, body });
      if (response.ok) return (await response.json()) as Body;
      if (!AGAIN.has(response.status) || attempt === ATTEMPTS) throw await refusal(response);
      await response.arrayBuffer();
      const asked = Number(response.headers.get("retry-after") ?? 0) * 1000;
      await new Promise((resolve) => setTimeout(resolve, asked + Math.random() * 200 * 2 ** attempt));
    }
  }
}

async function refusal(response: Response): Promise<PerceptError> {
  const text = await response.text();
  try {
    const { type, message, request_id } = JSON.parse(text).error;
    return new PerceptError(message, type, response.status, request_id);
  } catch {
    return new PerceptError(text.slice(0, 200), "unknown", response.status, response.headers.get("x-request-id"));
  }
}

/** The text of an answer: offsets count code points, but JavaScript strings count UTF-16 units. */
export function slice(context: string, start: number, end: number): string {
  return Array.from(context).slice(start, end).join("");
}
