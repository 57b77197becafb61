// What must not compile: tsc complains of a directive that has nothing to expect.

import createClient from "openapi-fetch";

import type { components, paths } from "./api.js";

type NewTask = components["schemas"]["TaskRequest"];

const client = createClient<paths>({ baseUrl: "" });
const path = { user_id: "me" };

// openapi-fetch itself lets fields of a body pass that there are not: its own known fault, for which
// `satisfies` makes up.

// @ts-expect-error  no such field
client.POST("/api/{user_id}/tasks", { params: { path }, body: { title: "x", descripton: "x" } satisfies NewTask });
// @ts-expect-error  a boolean
client.POST("/api/{user_id}/tasks", { params: { path }, body: { title: "x", is_completed: "true" } });
// @ts-expect-error  none of the choices
client.POST("/api/{user_id}/tasks", { params: { path }, body: { title: "x", priority: "hihg" } });
// @ts-expect-error  without a title
client.POST("/api/{user_id}/tasks", { params: { path }, body: {} });
// @ts-expect-error  read-only, and so without effect
client.POST("/api/{user_id}/tasks", { params: { path }, body: { title: "x", completed_at: null } satisfies NewTask });
// @ts-expect-error  no such parameter
client.GET("/api/{user_id}/tasks", { params: { path, query: { complete: true } } });
// @ts-expect-error  no such order
client.GET("/api/{user_id}/tasks", { params: { path, query: { ordering: ["titel"] } } });
// @ts-expect-error  no such header
client.POST("/api/{user_id}/tasks", { params: { path, header: { "Idempotence-Key": "x" } }, body: { title: "x" } });
// @ts-expect-error  no such operation
client.GET("/api/{user_id}/task", { params: { path } });

export const isLate = (error: components["schemas"]["ApiError"]): boolean =>
  // @ts-expect-error  no such code
  error.code === "TOKEN_EXPIERD";
