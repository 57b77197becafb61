// The walk of ../walk.py with openapi-fetch, typed by what openapi-typescript makes of openapi.yaml.

import createClient from "openapi-fetch";

import type { components, paths } from "./api.js";

type Page = components["schemas"]["TaskPage"];
type Task = components["schemas"]["Task"];
type ApiError = components["schemas"]["ApiError"];

const { TODO_URL: baseUrl = "", TODO_PAST_ACCESS: past = "" } = process.env;
const credentials = { email: "walker@example.com", password: "blue bicycle at noon" };
const mine = { user_id: "me" };

// Several values are one parameter, with commas: openapi-fetch would repeat its name.
const client = createClient<paths>({
  baseUrl,
  querySerializer: { array: { style: "form", explode: false } },
});
let access = "";
client.use({
  onRequest({ request }) {
    if (access) request.headers.set("Authorization", `Bearer ${access}`);
    return request;
  },
});

function see(step: string, response: Response, ...more: (string | number | undefined)[]): void {
  console.log(`${step}: ${[response.status, ...more].join(" ")}`);
}

function must<T>(value: T | null | undefined, what: string): T {
  if (value === null || value === undefined) throw new Error(`without ${what}`);
  return value;
}

/** The fault of a field that the server didn't take. */
function fault(error: ApiError, field: string): string {
  const faults = error.details[field];
  const first = Array.isArray(faults) ? faults[0] : undefined;
  return first && "code" in first ? first.code : "none";
}

const registration = await client.POST("/api/auth/register", { body: credentials });
const registered = must(registration.data, "a person");
see("register", registration.response, "email" in registered.data ? registered.data.email ?? "" : "");

const signIn = await client.POST("/api/auth/token", { body: credentials });
const first = must(signIn.data, "tokens").data;
see("sign in", signIn.response, first.expires_in);

access = past;
const late = await client.GET("/api/{user_id}/tasks", { params: { path: mine } });
see("past token", late.response, late.error?.error.code);

access = "";
const refresh = await client.POST("/api/auth/token/refresh", { body: { refresh: first.refresh } });
const second = must(refresh.data, "tokens").data;
access = second.access;
see("refresh", refresh.response, second.refresh === first.refresh ? "the same" : "another");

const key = crypto.randomUUID();
const create = (title: string) =>
  client.POST("/api/{user_id}/tasks", {
    params: { path: mine, header: { "Idempotency-Key": key } },
    body: { title, priority: "high", due_on: "2036-12-31" },
  });
const creation = await create("Buy milk");
const task: Task = must(creation.data, "a task").data;
see("create", creation.response, task.title, task.priority, task.due_on ?? "");

const retry = await create("Buy milk");
const isSame = retry.data?.data.id === task.id && retry.response.headers.get("Idempotent-Replayed");
see("retry with the key", retry.response, isSame ? "the same task" : "another");

const other = await create("Buy bread");
see("key of another request", other.response, other.error?.error.code);

for (let number = 1; number <= 6; number += 1) {
  await client.POST("/api/{user_id}/tasks", { params: { path: mine }, body: { title: `Task ${number}` } });
}
const tasks: Task[] = [];
let pages = 0;
let cursor: string | null = null;
let page;
do {
  page = await client.GET("/api/{user_id}/tasks", {
    params: { path: mine, query: { limit: 3, ordering: ["title"], ...(cursor === null ? {} : { cursor }) } },
  });
  const { data, meta }: Page = must(page.data, "a page");
  tasks.push(...data);
  pages += 1;
  cursor = meta.next_cursor;
} while (cursor !== null);
see("all pages", page.response, tasks.length, "tasks,", pages, "pages");

const filtered = await client.GET("/api/{user_id}/tasks", {
  params: {
    path: mine,
    query: { search: "milk buy", priority: ["high", "urgent"], is_completed: false, list_id: "inbox" },
  },
});
see("filters", filtered.response, ...must(filtered.data, "a page").data.map(({ title }) => title));

const one = { ...mine, task_id: task.id };
const completion = await client.PATCH("/api/{user_id}/tasks/{task_id}/complete", {
  params: { path: one },
  body: { is_completed: true },
});
const completed = must(completion.data, "a task").data;
see("complete", completion.response, completed.is_completed && completed.completed_at ? "done" : "open");

const rename = (title: string, etag: string) =>
  client.PATCH("/api/{user_id}/tasks/{task_id}", {
    params: { path: one, header: { "If-Match": etag } },
    body: { title },
  });
await rename("Buy oat milk", completed.etag);
const conflict = await rename("Buy soy milk", completed.etag);
const problem = must(conflict.error, "an error").error;
const current = must(problem.details.current, "what is there");
if (!("title" in current)) throw new Error("no task");
see("conflict", conflict.response, problem.code, current.title);

const again = await rename("Buy soy milk", current.etag);
see("with the new tag", again.response, again.data?.data.title);

const changes = await client.GET("/api/{user_id}/changes", { params: { path: mine } });
const feed = must(changes.data, "changes");
see("changes", changes.response, feed.data.length, feed.meta.has_more ? "and more" : "and no more");

await client.DELETE("/api/{user_id}/tasks/{task_id}", { params: { path: one } });
const later = await client.GET("/api/{user_id}/changes", {
  params: { path: mine, query: { since: feed.meta.next_since } },
});
const gone = must(later.data, "changes").data.map((change) => `${change.type} ${change.deleted ? "deleted" : "there"}`);
see("changes since", later.response, ...gone);

const blank = await client.POST("/api/{user_id}/tasks", { params: { path: mine }, body: { title: " " } });
const refused = must(blank.error, "an error").error;
see("blank title", blank.response, refused.code, fault(refused, "title"));

const missing = await client.GET("/api/{user_id}/tasks/{task_id}", { params: { path: one } });
see("deleted task", missing.response, missing.error?.error.code);

const theirs = await client.GET("/api/{user_id}/tasks", { params: { path: { user_id: crypto.randomUUID() } } });
see("somebody else's", theirs.response, theirs.error?.error.code);

let burst;
let tries = 0;
do {
  burst = await client.POST("/api/{user_id}/tasks", { params: { path: mine }, body: { title: "Too much" } });
  tries += 1;
} while (burst.response.ok && tries < 500);
const wait = Number(burst.response.headers.get("Retry-After"));
see("too many", burst.response, burst.error?.error.code, wait >= 1 ? "wait" : "no time");

access = "";
const nobody = await client.GET("/api/{user_id}/tasks", { params: { path: mine } });
see("no token", nobody.response, nobody.error?.error.code);
