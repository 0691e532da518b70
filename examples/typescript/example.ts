// node build/example.js URL PHOTO…: prints tags of the photos, then intents and an answer.

import { readFile } from "node:fs/promises";

import { Percept, PerceptError, slice } from "./percept.js";

const [url = "http://localhost:3000", ...files] = process.argv.slice(2);
const percept = new Percept(url);

try {
  if (files.length > 0) {
    const photos = await Promise.all(files.map(async (file) => new Blob([new Uint8Array(await readFile(file))])));
    const tagged = await percept.tag(...photos);
    tagged.results.forEach((result, place) => {
      const said =
        "error" in result ? result.error.message : result.tags.map((tag) => `${tag.label} ${tag.score.toFixed(2)}`);
      console.log(files[place], said);
    });
  }

  const understood = await percept.intents("play me a song", "qwertz");
  for (const result of understood.results) {
    console.log("error" in result ? result.error.message : (result.intent ?? "out of scope"));
  }

  const context = "😀 The light on the rock is kept by Ada Brandt.";
  const { answer } = await percept.answer("Who keeps the light?", context);
  console.log(answer === null ? "no answer" : slice(context, answer.start, answer.end));
} catch (error) {
  if (!(error instanceof PerceptError)) throw error;
  console.error(`${error.message} (${error.status} ${error.type}, request ${error.requestId})`);
  process.exitCode = 1;
}
