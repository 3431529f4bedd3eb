// Express with Mongoose: lean reads, validators on updates, one command to MongoDB for each request.

import express from "express";
import mongoose from "mongoose";

const [port, url, database] = process.argv.slice(2);

const address = new mongoose.Schema(
  { city: { type: String, required: true, maxlength: 80 }, zip: String },
  { _id: false, strict: "throw" },
);
const User = mongoose.model(
  "User",
  new mongoose.Schema(
    {
      name: { type: String, required: true, maxlength: 50 },
      age: { type: Number, min: 0, max: 150, validate: Number.isInteger },
      email: { type: String, match: /^[^@\s]+@[^@\s]+\.[^@\s]+$/ },
      tags: [String],
      address,
      active: Boolean,
      score: Number,
      since: Date,
    },
    { collection: "user", versionKey: false, strict: "throw" },
  ),
);

let heard = 0;
// Receivers: count what they hear of.
const changed = async (user, updatedFields) => { heard += Object.keys(updatedFields).length; };
const created = async (user) => { heard += 1; };

const shown = ({ _id, ...rest }) => ({ id: _id.toString(), ...rest });
const equal = (one, other) => JSON.stringify(one) === JSON.stringify(other);

// What an update has changed, an address by its parts.
function difference(before, fields) {
  const found = {};
  for (const [name, value] of Object.entries(fields)) {
    const old = before[name];
    if (old === value || equal(old, value)) continue;
    if (name === "address" && old && value) {
      for (const key of new Set([...Object.keys(old), ...Object.keys(value)]))
        if (old[key] !== value[key]) found[`${name}.${key}`] = { from: old[key], to: value[key] };
    } else found[name] = { from: old, to: value };
  }
  return found;
}

const app = express();
app.disable("x-powered-by");
app.use(express.json());
app.param("key", (request, response, next, key) => {
  if (mongoose.isObjectIdOrHexString(key)) next();
  else response.sendStatus(404);
});

app.get("/user", async (request, response) => {
  const page = Math.max(1, Number(request.query.page ?? 1));
  const perPage = Math.min(100, Math.max(1, Number(request.query.per_page ?? 20)));
  const where = request.query.age === undefined ? {} : { age: Number(request.query.age) };
  const found = await User.find(where).sort({ _id: 1 }).skip((page - 1) * perPage).limit(perPage).lean();
  response.json(found.map(shown));
});

app.get("/user/:key", async (request, response) => {
  const found = await User.findById(request.params.key).lean();
  if (!found) return response.sendStatus(404);
  response.json(shown(found));
});

app.post("/user", async (request, response) => {
  const user = shown((await User.create(request.body)).toObject());
  await created(user);
  response.location(`/user/${user.id}`).status(201).json(user);
});

app.put("/user/:key", async (request, response) => {
  const query = User.findOneAndUpdate({ _id: request.params.key }, { $set: request.body }, {
    returnDocument: "before", runValidators: true, lean: true,
  });
  const before = await query;
  if (!before) return response.sendStatus(404);
  const fields = query.getUpdate().$set ?? {};
  const user = shown({ ...before, ...fields });
  await changed(user, difference(before, fields));
  response.json(user);
});

app.delete("/user/:key", async (request, response) => {
  const { deletedCount } = await User.deleteOne({ _id: request.params.key });
  response.sendStatus(deletedCount ? 204 : 404);
});

app.use((error, request, response, next) => {
  const wrong = error instanceof mongoose.Error || error instanceof SyntaxError;
  response.status(wrong ? 400 : 500).json({ error: error.message });
});

await mongoose.connect(url, { dbName: database });
app.listen(Number(port), "127.0.0.1");
