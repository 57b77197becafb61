// Keeps a collection of RxDB (https://rxdb.info) and the tasks of the Todo API the same.
//
//   const { tasks, replication } = await openTasks(database, { api: "https://todo.example.com", token });
//   await tasks.insert({ id: crypto.randomUUID(), title: "Buy milk" });
//
// RxDB pulls what changed behind a checkpoint, which here is the API's feed of changes, and pushes
// documents with the state that it believes the server to have, which here is a batch with versions.
// The API tells no one that there is something new: call `replication.reSync()` when the page gets the
// focus, when the network is back, and now and then.

import { replicateRxCollection } from "rxdb/plugins/replication";
import { defaultConflictHandler } from "rxdb";
import { Subject } from "rxjs";

const FIELDS = ["title", "description", "is_completed"]; // what a person changes
const BLANK = { title: "-", description: null, is_completed: false, version: 0 };
// A batch takes 1 MiB. A description of 20,000 characters can have 80 kB.
const PUSHED_AT_ONCE = 10;

const schema = {
  version: 0,
  type: "object",
  primaryKey: "id",
  properties: {
    id: { type: "string", maxLength: 36 },
    title: { type: "string", minLength: 1, maxLength: 255 },
    description: { type: ["string", "null"], maxLength: 20000, default: null },
    is_completed: { type: "boolean", default: false },
    version: { type: "integer", default: 0 }, // the server's; it says what an edit was made to
  },
  required: ["id", "title"],
};

const pick = (source, names) => Object.fromEntries(names.map((name) => [name, source[name]]));
const toDocument = (task) => ({ ...pick(task, ["id", "version", ...FIELDS]), _deleted: false });
// What is gone has no fields any more, and RxDB's schema wants them.
const toTombstone = (id, version) => ({ ...BLANK, id, version, _deleted: true });

// `token()` gives an access token, new where the last one has expired. `onLost(mine, theirs)` hears of
// a document that was changed here, and gave way to what it became elsewhere; `onRefused(id, error)` of
// one that the server can't take.
export async function openTasks(database, { api, token, onLost, onRefused, retryTime }) {
  const refused = new Set(); // ids of documents of which the server's state has to be taken
  const conflictHandler = {
    // With `version`: otherwise RxDB would not take over one that alone is new.
    isEqual: defaultConflictHandler.isEqual,
    // Field by field: what was changed on one side alone stays. Elsewhere wins where both did.
    resolve({ assumedMasterState: base = BLANK, newDocumentState: mine, realMasterState: theirs }) {
      if (refused.delete(mine.id)) return theirs;
      if (base._deleted && !mine._deleted) return { ...theirs, ...pick(mine, FIELDS) }; // restored
      const changed = FIELDS.filter((name) => mine[name] !== base[name] && mine[name] !== theirs[name]);
      const taken = changed.filter((name) => theirs[name] === base[name]);
      const isDeleted = mine._deleted || theirs._deleted;
      if (isDeleted ? mine._deleted !== theirs._deleted : taken.length < changed.length) onLost?.(mine, theirs);
      return isDeleted ? theirs : { ...theirs, ...pick(mine, taken) };
    },
  };
  const { tasks } = await database.addCollections({ tasks: { schema, conflictHandler } });

  async function call(path, options = {}) {
    const headers = { "Content-Type": "application/json", Authorization: `Bearer ${await token()}` };
    const answer = await fetch(`${api}/api/me/${path}`, {
      ...options,
      headers: { ...headers, ...options.headers },
    });
    const { data, meta, error } = await answer.json();
    if (answer.ok) return { data, meta };
    const seconds = Number(answer.headers.get("Retry-After") ?? 0); // 429, 503
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    throw Object.assign(new Error(error.message), { status: answer.status, code: error.code });
  }

  async function changes(since, enough) {
    const documents = [];
    for (;;) {
      const query = new URLSearchParams({ limit: 200, ...(since && { since }) });
      const { data, meta } = await call(`changes?${query}`);
      for (const { type, id, version, deleted, resource } of data) {
        if (type === "task") documents.push(deleted ? toTombstone(id, version) : toDocument(resource));
      }
      since = meta.next_since;
      // RxDB takes fewer documents than it asked for as the end.
      if (!meta.has_more || documents.length >= enough) return { documents, checkpoint: { since } };
    }
  }

  async function pull(checkpoint, batchSize) {
    try {
      return await changes(checkpoint?.since, batchSize);
    } catch (error) {
      if (error.status !== 410) throw error;
    }
    // Away for too long: everything that lives, and what isn't among it is gone.
    const everything = await changes(undefined, Infinity);
    const living = new Set(everything.documents.map(({ id }) => id));
    const gone = (await tasks.find().exec()).filter(({ id }) => !living.has(id));
    everything.documents.push(...gone.map(({ id, version }) => toTombstone(id, version)));
    return everything;
  }

  // RxDB believes that the server keeps a document as it was pushed, but there it has a new version.
  // Until RxDB pulls that, it is found here: by id, the version that it was pushed with, and the new one.
  const became = new Map();

  function operation({ assumedMasterState: assumed, newDocumentState: { id, _deleted, ...document } }) {
    const pushed = became.get(id);
    const if_version = pushed?.as === (assumed?.version ?? 0) ? pushed.version : assumed?.version;
    if (_deleted) return { op: "delete", id, ...(if_version !== undefined && { if_version }) };
    if (assumed?._deleted) return { op: "restore", id };
    const data = pick(document, FIELDS);
    return if_version === undefined ? { op: "create", id, data } : { op: "update", id, if_version, data };
  }

  let unanswered; // a batch: it goes out again, with its key, before anything else does

  async function finish() {
    const { key, rows, operations } = unanswered;
    const body = JSON.stringify({ operations, atomic: false });
    const { data } = await call("batch", { method: "POST", body, headers: { "Idempotency-Key": key } });
    unanswered = undefined;
    return rows.flatMap(({ assumedMasterState: assumed, newDocumentState: { id, version } }, index) => {
      const { op } = operations[index];
      const { status, data: task, error } = data[index];
      if (op === "restore" && status === 200) return [toDocument(task)]; // what it was before: RxDB merges
      if (status < 300) {
        if (task) became.set(id, { as: version, version: task.version });
        return [];
      }
      if (status === 412) return [toDocument(error.details.current)];
      if (status === 404) return op === "delete" ? [] : [toTombstone(id, assumed?.version ?? 0)];
      refused.add(id);
      onRefused?.(id, error);
      return [assumed ?? toTombstone(id, 0)];
    });
  }

  const resync = new Subject();

  async function pushNext(rows) {
    if (unanswered) await finish();
    unanswered = { key: crypto.randomUUID(), rows, operations: rows.map(operation) };
    const conflicts = await finish();
    resync.next("RESYNC"); // what others wrote meanwhile, and the versions of what was pushed
    return conflicts;
  }

  let pushed = Promise.resolve(); // RxDB pushes several batches at once: one after the other
  const push = (rows) => (pushed = pushed.catch(() => {}).then(() => pushNext(rows)));

  const replication = replicateRxCollection({
    collection: tasks,
    replicationIdentifier: `${api}/api/me/tasks`,
    pull: { handler: pull, batchSize: 200, stream$: resync },
    push: { handler: push, batchSize: PUSHED_AT_ONCE },
    retryTime,
  });
  return { tasks, replication };
}
