// Two devices of one person, each with tasks of its own in RxDB, on and off the network by turns.
//
//   npm ci
//   TODO_TOKEN=<access or personal token> node two-devices.js http://127.0.0.1:8000
//
// Each line of the input is what somebody does on one of them, and is answered by a line of JSON:
//
//   phone add Buy milk
//   phone edit Buy milk -> Buy oat milk
//   phone note Buy oat milk -> Two litres
//   phone done Buy oat milk          (also: rm, restore)
//   phone offline                    (also: online, restart)
//   phone sync
//   laptop list

import { createInterface } from "node:readline";

import { createRxDatabase } from "rxdb";
import { getRxStorageMemory } from "rxdb/plugins/storage-memory";
import { wrappedValidateAjvStorage } from "rxdb/plugins/validate-ajv";

import { openTasks } from "./todo-sync.js";

const [phoneApi, laptopApi = phoneApi] = process.argv.slice(2);
const RETRY_MS = 300;

class Device {
  constructor(name, api) {
    this.name = name;
    this.api = api;
    // An application in a browser takes Dexie, which is IndexedDB, for the memory.
    this.storage = wrappedValidateAjvStorage({ storage: getRxStorageMemory() });
    this.removed = {}; // by title, so that it can be restored
  }

  async start() {
    const { name, api, storage } = this;
    this.told = [];
    this.database = await createRxDatabase({ name, storage, multiInstance: false });
    const { tasks, replication } = await openTasks(this.database, {
      api,
      token: () => process.env.TODO_TOKEN,
      // Nobody's text is lost: it becomes a task of its own.
      onLost: (mine, theirs) => {
        this.told.push(`"${mine.title}" was changed elsewhere`);
        if (!mine._deleted) tasks.insert({ ...mine, id: crypto.randomUUID(), version: 0 });
      },
      onRefused: (id, error) => this.told.push(error.message),
      retryTime: RETRY_MS,
    });
    Object.assign(this, { tasks, replication });
    replication.error$.subscribe((error) => this.told.push(error.parameters.errors?.[0].message ?? error.message));
    return "started";
  }

  async find(title) {
    return (await this.tasks.findOne({ selector: { title } }).exec()) ?? Promise.reject(new Error(`no "${title}"`));
  }

  async list() {
    const tasks = await this.tasks.find({ sort: [{ title: "asc" }] }).exec();
    return tasks.map((task) => task.toJSON());
  }

  async add(title) {
    return (await this.tasks.insert({ id: crypto.randomUUID(), title })).id;
  }

  async edit(title, newTitle) {
    return (await (await this.find(title)).incrementalPatch({ title: newTitle })).id;
  }

  async note(title, description) {
    return (await (await this.find(title)).incrementalPatch({ description })).id;
  }

  async done(title) {
    return (await (await this.find(title)).incrementalPatch({ is_completed: true })).id;
  }

  async rm(title) {
    const task = await this.find(title);
    this.removed[title] = task.id;
    return (await task.remove()).id;
  }

  async restore(title) {
    return (await this.tasks.insert({ id: this.removed[title], title })).id;
  }

  async offline() {
    await this.replication.pause();
    return "offline";
  }

  async online() {
    await this.replication.start();
    return "online";
  }

  async restart() {
    await this.database.close();
    return this.start();
  }

  // What there was to tell since the last time.
  async sync() {
    this.replication.reSync();
    await this.replication.awaitInSync();
    return this.told.splice(0);
  }
}

const devices = { phone: new Device("phone", phoneApi), laptop: new Device("laptop", laptopApi) };
await Promise.all(Object.values(devices).map((device) => device.start()));
const actions = ["list", "add", "edit", "note", "done", "rm", "restore", "offline", "online", "restart", "sync"];

for await (const line of createInterface({ input: process.stdin })) {
  const [, name, action, rest] = line.match(/^(\w+) +(\w+) *(.*)$/) ?? [];
  try {
    if (!devices[name] || !actions.includes(action)) throw new Error("Type: phone or laptop, and what it does.");
    console.log(JSON.stringify(await devices[name][action](...rest.split(" -> "))));
  } catch (error) {
    console.log(JSON.stringify({ error: error.message }));
  }
}
process.exit();
