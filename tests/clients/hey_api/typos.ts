// What must not compile: tsc complains of a directive that has nothing to expect.

import { type ApiError, tasksCreate, tasksList } from "./client/index.js";

const path = { user_id: "me" };

// @ts-expect-error  no such field
tasksCreate({ path, body: { title: "x", descripton: "x" } });
// @ts-expect-error  a boolean
tasksCreate({ path, body: { title: "x", is_completed: "true" } });
// @ts-expect-error  none of the choices
tasksCreate({ path, body: { title: "x", priority: "hihg" } });
// @ts-expect-error  without a title
tasksCreate({ path, body: {} });
// @ts-expect-error  read-only, and so without effect
tasksCreate({ path, body: { title: "x", completed_at: null } });
// @ts-expect-error  no such parameter
tasksList({ path, query: { complete: true } });
// @ts-expect-error  no such order
tasksList({ path, query: { ordering: ["titel"] } });

export const isLate = (error: ApiError): boolean =>
  // @ts-expect-error  no such code
  error.code === "TOKEN_EXPIERD";
