// Fastify with MongoDB's own driver: schemas for what comes in and what goes out, as its documentation advises.

import Fastify from "fastify";
import { MongoClient, ObjectId } from "mongodb";

const [port, url, database] = process.argv.slice(2);

const fields = {
  name: { type: "string", maxLength: 50 },
  age: { type: "integer", minimum: 0, maximum: 150 },
  email: { type: "string", format: "email" },
  tags: { type: "array", items: { type: "string" } },
  address: {
    type: "object",
    properties: { city: { type: "string", maxLength: 80 }, zip: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
  active: { type: "boolean" },
  score: { type: "number" },
  since: { type: "string", format: "date-time" },
};
const changes = { type: "object", properties: fields, additionalProperties: false };
const fresh = { ...changes, required: ["name"] };
const user = { type: "object", properties: { id: { type: "string" }, ...fields } };
const key = { type: "object", properties: { key: { type: "string", pattern: "^[0-9a-f]{24}$" } } };
const page = {
  type: "object",
  properties: {
    page: { type: "integer", minimum: 1, default: 1 },
    per_page: { type: "integer", minimum: 1, maximum: 100, default: 20 },
    age: fields.age,
  },
};

let heard = 0;
// Receivers: count what they hear of.
const changed = async (document, updatedFields) => { heard += Object.keys(updatedFields).length; };
const created = async (document) => { heard += 1; };

const shown = ({ _id, ...rest }) => ({ id: _id.toString(), ...rest });
const equal = (one, other) => JSON.stringify(one) === JSON.stringify(other);

function stored(body) {
  if (body.since !== undefined) body.since = new Date(body.since);
  return body;
}

// What an update has changed, an address by its parts.
function difference(before, after) {
  const found = {};
  for (const [name, value] of Object.entries(after)) {
    const old = before[name];
    if (old === value || equal(old, value)) continue;
    if (name === "address" && old && value) {
      for (const part of new Set([...Object.keys(old), ...Object.keys(value)]))
        if (old[part] !== value[part]) found[`${name}.${part}`] = { from: old[part], to: value[part] };
    } else found[name] = { from: old, to: value };
  }
  return found;
}

const client = await new MongoClient(url).connect();
const users = client.db(database).collection("user");
// Without these two, Fastify drops unknown fields silently and turns "7" into 7.
const app = Fastify({ ajv: { customOptions: { removeAdditional: false, coerceTypes: false } } });
// The query string is text by nature: its numbers are read here, the rest stays strict.
app.addHook("preValidation", async (request) => {
  for (const [name, value] of Object.entries(request.query)) request.query[name] = Number(value);
});

app.get("/user", {
  schema: { querystring: page, response: { 200: { type: "array", items: user } } },
}, async (request) => {
  const { page: number, per_page: size, ...where } = request.query;
  const found = await users.find(where).sort({ _id: 1 }).skip((number - 1) * size).limit(size).toArray();
  return found.map(shown);
});

app.get("/user/:key", { schema: { params: key, response: { 200: user } } }, async (request, reply) => {
  const found = await users.findOne({ _id: new ObjectId(request.params.key) });
  return found ? shown(found) : reply.code(404).send();
});

app.post("/user", { schema: { body: fresh, response: { 201: user } } }, async (request, reply) => {
  const document = stored(request.body);
  await users.insertOne(document);
  const made = shown(document);
  await created(made);
  return reply.code(201).header("Location", `/user/${made.id}`).send(made);
});

app.put("/user/:key", {
  schema: { params: key, body: changes, response: { 200: user } },
}, async (request, reply) => {
  const given = stored(request.body);
  const before = await users.findOneAndUpdate({ _id: new ObjectId(request.params.key) }, { $set: given });
  if (!before) return reply.code(404).send();
  const after = shown({ ...before, ...given });
  await changed(after, difference(before, given));
  return after;
});

app.delete("/user/:key", { schema: { params: key } }, async (request, reply) => {
  const { deletedCount } = await users.deleteOne({ _id: new ObjectId(request.params.key) });
  return reply.code(deletedCount ? 204 : 404).send();
});

await app.listen({ port: Number(port), host: "127.0.0.1" });
