// A small Better Auth server, as an application would set it up; tests/providers/conftest.py starts it.
//
//   BETTER_AUTH_SECRET=... node server.mjs PORT STATE plain|neon
//
// STATE is a file: what people, sessions and keys there are when it stops, and begins with when it
// starts. It stops when its standard input ends, so it never outlives the tests. `neon` is the form
// that Neon documents for its managed Better Auth: paths, ids and claims.
//
// Beside Better Auth's own routes, for the tests:
//   GET  /mails                 what was mailed: [{"to", "token"}]
//   POST /rotate?old=keep|drop  the keys so far sign no more; `drop`: nor are they published

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { deserialize, serialize } from "node:v8";

import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { admin, bearer, jwt } from "better-auth/plugins";

const [port, state, form] = process.argv.slice(2);
const neon = form === "neon";

// Not JSON: the adapter's rows hold dates.
const { database, mails } = existsSync(state)
  ? deserialize(readFileSync(state))
  : { database: { user: [], session: [], account: [], verification: [], jwks: [] }, mails: [] };

const auth = betterAuth({
  baseURL: `http://127.0.0.1:${port}`,
  basePath: neon ? "/neondb/auth" : "/api/auth",
  database: memoryAdapter(database),
  emailAndPassword: { enabled: true },
  emailVerification: {
    sendOnSignUp: true,
    sendVerificationEmail: async ({ user, token }) => {
      mails.push({ to: user.email, token });
    },
  },
  // The cache is a JWT under the very keys of the tokens: the tests send it where it doesn't belong.
  session: { cookieCache: { enabled: true, strategy: "jwt" } },
  plugins: [
    jwt({
      sessionCookieCache: true,
      jwks: neon ? { jwksPath: "/.well-known/jwks.json" } : {},
    }),
    bearer(),
    ...(neon ? [admin({ defaultRole: "authenticated" })] : []),
  ],
  advanced: neon ? { database: { generateId: "uuid" } } : {},
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
});
const answer = toNodeHandler(auth);

// As Better Auth itself rotates: a key that has expired signs no more, and the next token makes a
// new one; it stays in the set until its grace period, 30 days, is over.
function rotate(old) {
  const expired = new Date(old === "drop" ? 0 : Date.now());
  for (const key of database.jwks) {
    key.expiresAt = expired;
  }
}

const server = createServer((request, response) => {
  const url = new URL(request.url, "http://127.0.0.1");
  if (request.method === "GET" && url.pathname === "/mails") {
    response.end(JSON.stringify(mails));
  } else if (request.method === "POST" && url.pathname === "/rotate") {
    rotate(url.searchParams.get("old"));
    response.end();
  } else {
    answer(request, response);
  }
});
server.listen(Number(port), "127.0.0.1", () => console.log(`listening on ${port}`));

process.stdin.resume().on("end", () => {
  writeFileSync(state, serialize({ database, mails }));
  process.exit();
});
